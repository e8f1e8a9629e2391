"""Every recorded exchange with Gemini's API, decoded and compared with a second, naive reading."""

import json

import pytest

from mana_llm.providers.google import Google
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderBlockedError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderTruncatedError,
)
from mana_llm.schema.wire import Origin
from tests.recordings import ABSENT, ROOT, assert_same_at_every_split, cases, recordings, streamed

FOLDER = "google"
# By the word in the path: what is not generateContent. A list of models has a test of its own.
OTHER_PATHS = {
    "cachedContents": "the caching API",
    "interactions": "the Interactions API, which has other shapes",
    "batchEmbedContents": "embeddings",
    "embedContent": "embeddings",
    "countTokens": "counts without an answer",
}
# By name: fixtures whose url is unknown.
NOT_CHAT = {
    "prism-php+prism--Fixtures__gemini__multimodal-embeddings-aggregate-1.json.json#0": "an embedding",
    "prism-php+prism--Fixtures__gemini__multimodal-embeddings-image-1.json.json#0": "an embedding",
}
# Recorded by the client library after its own framing: one event's data per line.
UNFRAMED = "vercel+ai--google__google-tool-call.chunks.txt.json#0"
FAILING = {
    # Thinking ate the whole budget.
    "pydantic+pydantic-ai--test_google__test_google_model_max_tokens_thinking_model_empty_response.yaml.json#0": (
        ProviderTruncatedError
    ),
    "pydantic+pydantic-ai--test_google__test_google_model_safety_settings.yaml.json#0": ProviderBlockedError,
}
ASKED = ChatRequest({}, "", stream=False, include_usage=False)


def google():
    return Google(Origin("https", "generativelanguage.googleapis.com", 443), "", "made-up-key-of-nobody")


def is_list(recording):
    return recording.url.split("?")[0].endswith("/v1beta/models")


def is_chat(recording):
    known = any(word in recording.url for word in OTHER_PATHS) or recording.file in NOT_CHAT
    return recording.status == 200 and not known and not is_list(recording)


def is_stream(recording):
    return is_chat(recording) and (recording.file == UNFRAMED or recording.body.lstrip().startswith(b"data:"))


def is_whole(recording):
    return is_chat(recording) and not is_stream(recording)


def is_error(recording):
    return recording.status >= 400


def body_of(recording):
    if recording.file != UNFRAMED:
        return recording.body
    return b"".join(b"data: %b\r\n\r\n" % line for line in recording.body.splitlines() if line.strip())


def events_of(recording):
    lines = body_of(recording).splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith(b"data:")]


def parts_of(events):
    candidates = [candidate for event in events for candidate in event.get("candidates", [])]
    return [part for candidate in candidates for part in candidate.get("content", {}).get("parts", [])]


def text_of(parts, *, thought):
    return "".join(part.get("text", "") for part in parts if bool(part.get("thought")) is thought)


def called_in(parts):
    calls = [(part["functionCall"], part.get("thoughtSignature")) for part in parts if "functionCall" in part]
    return [(call["name"], call.get("args") or {}, call.get("id"), signature) for call, signature in calls]


def said_of(call):
    signature = call.get("extra_content", {}).get("google", {}).get("thought_signature")
    made_up = call["id"].startswith("call_mana_")
    arguments = json.loads(call["function"]["arguments"])
    return (call["function"]["name"], arguments, None if made_up else call["id"], signature)


def expected_finish(events, parts):
    reasons = [c["finishReason"] for event in events for c in event.get("candidates", []) if "finishReason" in c]
    if reasons[-1] == "MAX_TOKENS":
        return "length"
    return "tool_calls" if called_in(parts) else "stop"


def assert_usage(usage, counts):
    assert usage.prompt_tokens == counts.get("promptTokenCount", 0) + counts.get("toolUsePromptTokenCount", 0)
    assert usage.completion_tokens == counts.get("candidatesTokenCount", 0) + counts.get("thoughtsTokenCount", 0)
    # One recorder left the prompt and the total out.
    assert usage.total_tokens == counts.get("totalTokenCount", usage.completion_tokens)
    reasoning = usage.completion_tokens_details
    assert (reasoning and reasoning.reasoning_tokens) == counts.get("thoughtsTokenCount")
    cached = usage.prompt_tokens_details
    assert (cached and cached.cached_tokens) == counts.get("cachedContentTokenCount")


@pytest.mark.parametrize("recording", cases(FOLDER, is_whole))
def test_whole_answer_says_what_gemini_said_when_it_was_recorded(recording):
    """A whole answer keeps text, thoughts, calls, signatures and counts, with OpenAI's finish reason."""
    if recording.file in FAILING:
        with pytest.raises(FAILING[recording.file]):
            google().decode_chat(recording.body, ASKED)
        return
    event = json.loads(recording.body)
    parts = parts_of([event])
    completion = google().decode_chat(recording.body, ASKED)
    (choice,) = completion.fields["choices"]
    message = choice["message"]
    assert message["role"] == "assistant"
    assert (message["content"] or "") == text_of(parts, thought=False)
    assert message.get("reasoning_content", "") == text_of(parts, thought=True)
    calls = message.get("tool_calls", [])
    assert [said_of(call) for call in calls] == called_in(parts)
    assert len({call["id"] for call in calls}) == len(calls)
    assert choice["finish_reason"] == expected_finish([event], parts)
    assert completion.fields.get("id") == event.get("responseId")
    assert completion.fields["model"] == event.get("modelVersion", "")
    assert "created" not in completion.fields
    assert_usage(completion.usage, event["usageMetadata"])


@pytest.mark.parametrize("recording", cases(FOLDER, is_stream))
def test_stream_says_what_gemini_said_when_it_was_recorded(recording):
    """The chunks of a stream put together are the events put together; finish and last usage end it."""
    events = events_of(recording)
    parts = parts_of(events)
    chunks, ending = streamed(google().open_stream(ASKED), [body_of(recording)])
    assert ending == (True, type(None), None)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.get("content", "") for delta in deltas) == text_of(parts, thought=False)
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == text_of(parts, thought=True)
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [said_of(call) for call in calls] == called_in(parts)
    assert [call["index"] for call in calls] == list(range(len(calls)))
    signatures = [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]
    kept = [delta["extra_content"]["google"]["thought_signature"] for delta in deltas if "extra_content" in delta]
    kept += [said_of(call)[3] for call in calls if said_of(call)[3]]
    assert sorted(kept) == sorted(signatures)
    assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert [chunk.finished for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices[0]["finish_reason"] == expected_finish(events, parts)
    assert all(chunk.fields == chunks[0].fields and chunk.usage is None for chunk in chunks[:-1])
    assert_usage(chunks[-1].usage, events[-1]["usageMetadata"])


@pytest.mark.parametrize("recording", cases(FOLDER, is_stream))
def test_stream_is_the_same_when_it_is_split_at_any_byte(recording):
    """Where the network splits a stream changes nothing, inside CRLF CRLF too."""
    assert_same_at_every_split(lambda: google().open_stream(ASKED), body_of(recording), b"\r\n\r\n")


@pytest.mark.parametrize("recording", cases(FOLDER, is_error))
def test_error_has_its_class_when_it_was_recorded(recording):
    """A bad key is ours to mend, a quota passes, an unknown model is the client's."""
    error = google().decode_error(recording.status, recording.headers, recording.body)
    said = json.loads(recording.body)["error"]
    if b"API_KEY_INVALID" in recording.body or recording.status == 403:
        assert type(error) is ProviderAuthError
        assert said["message"] not in error.message
    elif recording.status == 429:
        assert type(error) is ProviderRateLimitError
        assert 34.0 <= error.retry_after_s <= 49.0
    else:
        assert type(error) is ProviderRequestError
        assert (error.status, error.message) == (recording.status, said["message"])
        assert error.code == ("model_not_found" if recording.status == 404 else said["status"])


@pytest.mark.parametrize("recording", cases(FOLDER, lambda found: is_list(found) and found.status == 200))
def test_models_chat_or_embed_when_the_list_was_recorded(recording):
    """Of a recorded list those stay that chat or embed, without `models/`, with the context of the vendor."""
    rows = json.loads(recording.body)["models"]
    wanted = {"generateContent", "embedContent"}
    kept = [row for row in rows if wanted & set(row.get("supportedGenerationMethods", []))]
    models = google().decode_models(recording.body)
    assert [model.id for model in models] == [row["name"].removeprefix("models/") for row in kept]
    assert [model.context_window or 0 for model in models] == [row.get("inputTokenLimit", 0) for row in kept]


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_exclusions_exist_when_they_are_listed():
    """Every name that is treated apart is a recording, and each excluded path occurs."""
    found = recordings(FOLDER)
    assert {*NOT_CHAT, *FAILING, UNFRAMED} <= {recording.file for recording in found}
    assert any("interactions" in recording.url for recording in found)
    assert sum(map(is_chat, found)) > 50
