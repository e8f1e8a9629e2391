"""Every recorded chat of the OpenAI-compatible clouds, decoded and compared with a second, naive reading."""

import json

import pytest

from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderServerError,
)
from mana_llm.schema.wire import encode_json
from tests.chat_recordings import (
    BROKEN,
    CLOUDS,
    NOT_CHAT,
    OTHER_PATHS,
    UNFRAMED,
    body_of,
    calls_in,
    cloud,
    events_of,
    finishes_in,
    is_chat,
    is_stream,
    is_whole,
    said_in,
)
from tests.recordings import ABSENT, ROOT, assert_same_at_every_split, recordings, streamed

WORDS = {"eos": "stop"}


def found(chosen):
    """Parameters for pytest: folder and recording, or one skipped case."""
    if not ROOT.is_dir():
        return [pytest.param(None, None, marks=pytest.mark.skip(reason=ABSENT))]
    return [
        pytest.param(folder, recording, id=f"{folder}-{recording.file}")
        for folder in CLOUDS
        for recording in recordings(folder)
        if chosen(recording)
    ]


def as_json(chunks):
    """Decoded chunks as the JSON that they stand for."""
    whole = [{"choices": chunk.choices, "usage": chunk.usage} for chunk in chunks]
    return json.loads(encode_json(whole))


def as_openai_says(finishes):
    """Finish reasons in OpenAI's words."""
    return {index: [WORDS.get(word, word) for word in words] for index, words in finishes.items()}


@pytest.mark.parametrize(("folder", "recording"), found(is_whole))
def test_whole_answer_passes_as_it_came_when_it_was_recorded(folder, recording):
    """Every member of a whole answer is what the provider sent, but a foreign finish word and a missing index."""
    expected = json.loads(recording.body)
    for at, choice in enumerate(expected["choices"]):
        choice.setdefault("index", at)
        if "finish_reason" in choice:
            choice["finish_reason"] = WORDS.get(choice["finish_reason"], choice["finish_reason"])
    completion = cloud(folder).decode_chat(recording.body)
    assert json.loads(encode_json(completion.fields)) == expected
    assert list(completion.fields) == list(expected)
    usage = expected.get("usage")
    assert (completion.usage is None) is (usage is None)
    if usage is not None:
        assert completion.usage.tokens_in == usage["prompt_tokens"]
        assert completion.usage.tokens_out == usage["completion_tokens"]


@pytest.mark.parametrize(("folder", "recording"), found(lambda found: is_stream(found) and found.file not in BROKEN))
def test_stream_says_what_the_cloud_said_when_it_was_recorded(folder, recording):
    """The chunks of a stream hold each event's choices, and put together the same text, calls and finish."""
    events = events_of(body_of(folder, recording))
    chunks, ending = streamed(cloud(folder).open_stream(), [body_of(folder, recording)])
    assert ending == (True, type(None), None)
    said = as_json(chunks)
    assert len(said) == len(events)
    for member in ("content", "reasoning", "reasoning_content", "refusal"):
        assert said_in(said, member) == said_in(events, member)
    assert calls_in(said) == calls_in(events)
    assert finishes_in(said) == as_openai_says(finishes_in(events))
    assert [chunk["usage"] for chunk in said] == [event.get("usage") for event in events]
    assert [chunk.finished for chunk in chunks] == [bool(finishes_in([event])) for event in events]
    assert chunks[0].fields.keys() == events[0].keys() - {"choices", "usage"}


@pytest.mark.parametrize(("folder", "recording"), found(is_stream))
def test_stream_is_the_same_when_it_is_split_at_any_byte(folder, recording):
    """Where the network splits a stream changes nothing: chunks, failure, end."""
    assert_same_at_every_split(cloud(folder).open_stream, body_of(folder, recording), b"\n\n")


@pytest.mark.parametrize(("folder", "recording"), found(lambda found: found.file in BROKEN))
def test_stream_keeps_its_beginning_when_an_error_follows_in_it(folder, recording):
    """What came before the error is given out, then the error by its class, and the stream is not whole."""
    events = events_of(recording.body)
    before = events[: next(at for at, event in enumerate(events) if "error" in event)]
    chunks, (done, failure, _) = streamed(cloud(folder).open_stream(), [recording.body])
    assert not done
    assert failure is ProviderServerError
    assert said_in(as_json(chunks), "content") == said_in(before, "content")
    assert said_in(as_json(chunks), "reasoning") == said_in(before, "reasoning")


@pytest.mark.parametrize(("folder", "recording"), found(lambda found: found.status >= 400))
def test_error_has_its_class_when_it_was_recorded(folder, recording):
    """A refused key is ours to mend, 429 passes, a failed tool call is sampled again, the rest is the client's."""
    error = cloud(folder).decode_error(recording.status, recording.headers, recording.body)
    said = json.loads(recording.body)["error"]
    if recording.status in (401, 403):
        assert type(error) is ProviderAuthError
        assert said["message"] not in error.message
    elif recording.status == 429:
        assert type(error) is ProviderRateLimitError
    elif said.get("code") == "tool_use_failed":
        assert (type(error), error.health, error.walks_on) == (ProviderServerError, "none", True)
    else:
        assert type(error) is ProviderRequestError
        assert (error.status, error.message) == (recording.status, said["message"])
        assert error.code == (said["code"] if isinstance(said.get("code"), str) else None)
        assert error.param == said.get("param")


@pytest.mark.parametrize(
    ("folder", "recording"), found(lambda found: found.url.endswith("/models") and found.status == 200)
)
def test_models_are_all_listed_when_the_list_was_recorded(folder, recording):
    """Every row of a recorded list is a model, with the context that the vendor tells."""
    rows = json.loads(recording.body)["data"]
    models = cloud(folder).decode_models(recording.body)
    assert [model.id for model in models] == [row["id"] for row in rows]
    assert [model.context_window for model in models] == [
        row.get("context_window") or row.get("context_length") or None for row in rows
    ]


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_exclusions_exist_when_they_are_listed():
    """Every name and path that is treated apart occurs, and nothing else is left out."""
    all_of_them = [recording for folder in CLOUDS for recording in recordings(folder)]
    files = {recording.file for recording in all_of_them}
    assert {*NOT_CHAT, *BROKEN, *UNFRAMED} <= files
    for path in OTHER_PATHS:
        assert any(recording.url.split("?")[0].endswith(path) for recording in all_of_them), path
    tried = [one for one in all_of_them if is_whole(one) or is_stream(one) or one.status >= 400]
    left_out = [one for one in all_of_them if one.status == 200 and not is_chat(one)]
    assert len(tried) + len(left_out) == len(all_of_them)
    assert sum(map(is_stream, all_of_them)) > 60
