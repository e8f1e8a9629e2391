"""What counts as content in an OpenAI-compatible stream, and that an answer with no choice in it is none."""

import json

import pytest

from mana_llm.schema.errors import ProviderBlockedError, ProviderProtocolError
from mana_llm.schema.wire import encode_json
from tests.chat_recordings import asked, cloud, events_of, is_stream
from tests.providers import google_cases, ollama_world
from tests.recordings import cases, streamed

DONE = b"data: [DONE]\n\n"
USED = {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}
# A thought that may not be read, a picture, a source, a search that the server ran: each without a word of text.
WORDLESS = {
    "reasoning_details": [{"type": "reasoning.encrypted", "data": "gAAA", "index": 0}],
    "thinking": "Well",
    "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.com"}}],
    "executed_tools": [{"index": 0, "type": "search", "arguments": "{}"}],
}


def event(**members):
    return b"data: %b\n\n" % encode_json({"id": "c", "object": "chat.completion.chunk", **members})


def delta(finish=None, **members):
    return event(choices=[{"index": 0, "delta": members, "finish_reason": finish}])


def outcome(*events):
    """Whether the stream was whole, and the class of its failure."""
    (done, failure, _) = streamed(cloud("openai-chat").open_stream(asked(stream=True)), events)[1]
    return done, failure


@pytest.mark.parametrize("name", WORDLESS)
def test_delta_is_content_when_it_says_something_without_text(name):
    """Reasoning in whatever form, pictures, sources and tools that the server ran are no silence, and pass as is."""
    said = {"role": "assistant", "content": "", name: WORDLESS[name]}
    (chunk,), _ = streamed(cloud("openrouter").open_stream(asked(stream=True)), [delta(**said)])
    assert chunk.has_content
    assert json.loads(encode_json(chunk.choices[0]["delta"])) == said


@pytest.mark.parametrize("name", WORDLESS)
def test_delta_is_no_content_when_what_it_could_say_is_empty(name):
    """Names alone, null or empty, say nothing."""
    for nothing in (None, [], "", {}):
        (chunk,), _ = streamed(cloud("openrouter").open_stream(asked(stream=True)), [delta(**{name: nothing})])
        assert not chunk.has_content


@pytest.mark.parametrize("name", WORDLESS)
def test_filter_is_a_finish_when_something_without_text_came_before(name):
    """Plain and streamed agree that it is no answer without content; with nothing said, both refuse it."""
    said, provider = {"content": None, name: WORDLESS[name]}, cloud("openrouter")
    assert outcome(delta(**said), delta("content_filter"), DONE) == (True, type(None))
    choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": "content_filter"}
    whole = provider.decode_chat(encode_json({"choices": [choice]}), asked())
    assert json.loads(encode_json(whole.fields["choices"])) == [choice]
    assert outcome(delta("content_filter"), DONE) == (False, ProviderBlockedError)


def _is_wordless(recording):
    return is_stream(recording) and b"reasoning.encrypted" in recording.body


@pytest.mark.parametrize("recording", cases("openrouter", _is_wordless))
def test_encrypted_reasoning_is_content_when_it_was_recorded(recording):
    """A chunk of OpenRouter's that has nothing but encrypted reasoning ends the wait for the first token."""
    chunks, _ = streamed(cloud("openrouter").open_stream(asked(stream=True)), [recording.body])
    found = [
        chunk
        for chunk, told in zip(chunks, events_of(recording.body), strict=True)
        if any(choice["delta"].get("reasoning_details") for choice in told["choices"])
    ]
    assert found
    assert all(chunk.has_content for chunk in found)


@pytest.mark.parametrize("thought", [{"thinking": "Well"}, {"thinking": "Well", "content": ""}])
def test_thinking_is_content_when_ollama_streams_it(thought):
    """A local model that thinks is not silent."""
    decoder = ollama_world.ollama().open_stream(ollama_world.request(stream=True), "m")
    assert [chunk.has_content for chunk in decoder.feed(ollama_world.says(**thought))] == [True]


@pytest.mark.parametrize(
    "part", [{"text": "Well", "thought": True}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
)
def test_thought_or_picture_is_content_when_gemini_streams_it(part):
    """A thought part and a picture end the wait for the first token, as text does."""
    provider, request = google_cases.google(), google_cases.request(stream=True)
    body = google_cases.answer(part, reason=None)
    (chunk,) = provider.open_stream(request).feed(b"data: %b\r\n\r\n" % body)
    assert chunk.has_content


HOLLOW = [{"choices": []}, {"choices": None}, {"choices": [], "usage": USED}, {"choices": None, "usage": USED}]


@pytest.mark.parametrize("members", HOLLOW, ids=json.dumps)
def test_answer_is_a_protocol_error_when_it_has_no_choice(members):
    """Plain and streamed agree: what has no choice answers nothing, whatever it counts, with an end marker or not."""
    with pytest.raises(ProviderProtocolError):
        cloud("openai-chat").decode_chat(encode_json({"id": "c", "object": "chat.completion", **members}), asked())
    assert outcome(event(**members), DONE) == (False, ProviderProtocolError)
    assert outcome(event(**members)) == (False, ProviderProtocolError)


@pytest.mark.parametrize(
    "events",
    [
        (delta(role="assistant", content=""), DONE),
        (event(choices=[], prompt_filter_results=[]), delta(role="assistant"), DONE),
        (delta("stop"),),
        (delta(content="a"), event(choices=[], usage=USED), DONE),
        (delta(content="a"), event(choices=None), event(usage=USED), DONE),
        (DONE,),
    ],
    ids=["a role", "a role after a filter's report", "a finish", "usage at the end", "null after content", "a marker"],
)
def test_stream_is_whole_when_it_ends_cleanly(events):
    """A clean end is an answer, an empty one too: one choice, a finish, or nothing but the end marker."""
    assert outcome(*events) == (True, type(None))
