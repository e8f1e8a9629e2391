"""Every provider's recorded streams, decoded and written anew for OpenAI's clients: valid, whole, and once."""

import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from mana_llm.dialects.openai import OpenAI
from mana_llm.schema.chat import ChatRequest, Identity
from mana_llm.schema.wire import encode_json
from tests.chat_recordings import (
    CLOUDS,
    asked,
    body_of,
    calls_in,
    cloud,
    events_of,
    finishes_in,
    is_any_stream,
    is_whole,
    provider_of,
    put_events_right,
    said_in,
)
from tests.recordings import ABSENT, ROOT, recordings, streamed

FOLDERS = (*CLOUDS, "ollama-native", "google")
OURS = Identity("chatcmpl-ours", 5)
RESOLVED = "provider/model"
# These whole answers came in a shape that OpenAI's own types do not know.
LOOSE = {
    "pydantic+pydantic-ai--test_openrouter__test_openrouter_file_annotation.yaml.json#0": "annotations are files",
}
# Streams that end with [DONE] and no finish: none is invented.
UNFINISHED = {
    "pydantic+pydantic-ai--test_snowflake__test_snowflake_model_streaming.yaml.json#0": "Snowflake finishes nothing",
}
# Where a folder's whole reading is not of OpenAI's events, the decoder's own tests compare the text.
TRANSLATED = ("ollama-native", "google")


def found():
    """Parameters for pytest: folder and recording, or one skipped case."""
    if not ROOT.is_dir():
        return [pytest.param(None, None, marks=pytest.mark.skip(reason=ABSENT))]
    return [
        pytest.param(folder, recording, id=f"{folder}-{recording.file}")
        for folder in FOLDERS
        for recording in recordings(folder)
        if is_any_stream(folder, recording)
    ]


def relayed(folder, recording, *, include_usage):
    """The client's bytes for a recorded stream, and the chunks that were decoded."""
    chunks, (done, *_) = streamed(provider_of(folder).open_stream(asked(stream=True)), [body_of(folder, recording)])
    assert done
    request = ChatRequest({}, "mana/any", stream=True, include_usage=include_usage)
    encoder = OpenAI().open_stream(request, RESOLVED, OURS)
    return encoder.encode(chunks) + encoder.end(), chunks


def naive(folder, recording, chunks):
    """What the recording says, as OpenAI's events."""
    if folder not in TRANSLATED:
        return put_events_right(events_of(body_of(folder, recording)))
    return [{"choices": chunk.choices, "usage": chunk.usage} for chunk in chunks]


@pytest.mark.parametrize(("folder", "recording"), found())
def test_relayed_stream_is_openais_when_it_was_recorded(folder, recording):
    """Each event is a strict ChatCompletionChunk; role, head and finish come once; [DONE] ends it."""
    chunks = decoded(folder, recording)
    before = said_before(folder, recording)
    client_bytes, _ = relayed(folder, recording, include_usage=True)
    assert client_bytes.endswith(b"data: [DONE]\n\n")
    assert client_bytes.count(b"[DONE]") == 1
    events = events_of(client_bytes)
    for event in events:
        ChatCompletionChunk.model_validate(event, strict=True)
    assert len({(event["id"], event["created"], event["model"], event["object"]) for event in events}) == 1
    assert events[0]["model"] == RESOLVED
    assert_roles(events)
    assert {len(words) for words in finishes_in(events).values()} == (set() if recording.file in UNFINISHED else {1})
    for member in ("content", "reasoning", "reasoning_content", "refusal"):
        assert said_in(events, member) == before[member]
    assert calls_in(events) == before["calls"]
    assert_usage(events, chunks)


def decoded(folder, recording):
    """The chunks as the decoder gives them; the encoder changes its own copy in place."""
    return streamed(provider_of(folder).open_stream(asked(stream=True)), [body_of(folder, recording)])[0]


def said_before(folder, recording):
    """Texts and calls of the recording, before anything was encoded."""
    events = naive(folder, recording, decoded(folder, recording))
    texts = {name: said_in(events, name) for name in ("content", "reasoning", "reasoning_content", "refusal")}
    return {**texts, "calls": calls_in(events)}


def assert_roles(events):
    """The first delta of each choice has the role and content; no other has a role."""
    begun = set()
    for event in events:
        for choice in event["choices"]:
            if choice["index"] in begun:
                assert "role" not in choice["delta"]
            else:
                begun.add(choice["index"])
                assert choice["delta"]["role"] == "assistant"
                assert isinstance(choice["delta"]["content"], str | None)
    assert begun


def assert_usage(events, chunks):
    """Usage is null on every event but one last without choices, which has the last that the provider told."""
    reported = [chunk.usage for chunk in chunks if chunk.usage is not None]
    told = [event["usage"] for event in events if event["usage"] is not None]
    assert len(told) == min(len(reported), 1)
    if reported:
        assert events[-1]["usage"] == json.loads(encode_json(reported[-1]))
        assert events[-1]["choices"] == []
    assert all(event["choices"] for event in events if event["usage"] is None)


@pytest.mark.parametrize(("folder", "recording"), found())
def test_relayed_stream_has_no_usage_when_nobody_asked(folder, recording):
    """Without include_usage there is no usage and no event without choices; all else is the same."""
    client_bytes, _ = relayed(folder, recording, include_usage=False)
    events = events_of(client_bytes)
    assert all("usage" not in event and event["choices"] for event in events)
    with_usage = events_of(relayed(folder, recording, include_usage=True)[0])
    assert [event | {"usage": None} for event in events] == [event for event in with_usage if event["choices"]]


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_whole_answers_are_openais_when_they_were_recorded():
    """Every recorded whole answer, written for a client, is a strict ChatCompletion; exceptions have a reason."""
    loose = set()
    for folder in CLOUDS:
        for recording in filter(is_whole, recordings(folder)):
            body = OpenAI().encode_chat(cloud(folder).decode_chat(recording.body, asked()), RESOLVED, OURS)
            try:
                ChatCompletion.model_validate(json.loads(body), strict=True)
            except ValueError:
                loose.add(recording.file)
    assert loose == set(LOOSE)
