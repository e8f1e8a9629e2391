"""Every recorded exchange with Gemini's API, Vertex's too, decoded and compared with a second, naive reading."""

import json

import pytest

from mana_llm.schema.errors import ProviderAuthError, ProviderRateLimitError, ProviderRequestError
from tests.google_recordings import (
    ASKED,
    FAILING,
    FOLDERS,
    NOT_CHAT,
    OTHER_PATHS,
    UNFRAMED,
    body_of,
    events_of,
    features_of,
    google,
    google_rows,
    is_chat,
    is_error,
    is_list,
    is_stream,
    is_whole,
    parts_of,
)
from tests.recordings import ABSENT, ROOT, assert_same_at_every_split, cases, recordings, streamed

# Embeddings that are answers to calls which are not made here: one text by Gemini's :embedContent, Vertex's :predict.
NOT_UNDERSTOOD = {"google": 2, "google-vertex": 2}


def both(chosen):
    """Parameters for pytest: the recordings of Gemini and of Vertex that `chosen` takes."""
    return [case for folder in FOLDERS for case in cases(folder, chosen)]


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


@pytest.mark.parametrize("recording", both(is_whole))
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


@pytest.mark.parametrize("recording", both(is_stream))
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


@pytest.mark.parametrize("recording", both(is_stream))
def test_stream_is_the_same_when_it_is_split_at_any_byte(recording):
    """Where the network splits a stream changes nothing, inside CRLF CRLF too."""
    assert_same_at_every_split(lambda: google().open_stream(ASKED), body_of(recording), b"\r\n\r\n")


@pytest.mark.parametrize("recording", both(is_error))
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
        too_long = "context_length_exceeded" if "token count" in said["message"] else said["status"]
        assert error.code == ("model_not_found" if recording.status == 404 else too_long)


@pytest.mark.parametrize("recording", both(lambda found: is_list(found) and found.status == 200))
def test_models_chat_or_embed_when_the_list_was_recorded(recording):
    """Of a recorded list those stay that chat or embed, without `models/`, with the context of the vendor."""
    rows = json.loads(recording.body)["models"]
    wanted = {"generateContent", "embedContent"}
    kept = [row for row in rows if wanted & set(row.get("supportedGenerationMethods", []))]
    models = google().decode_models(recording.body)
    assert [model.id for model in models] == [row["name"].removeprefix("models/") for row in kept]
    assert [model.context_window or 0 for model in models] == [row.get("inputTokenLimit", 0) for row in kept]


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_every_recording_is_understood_when_the_rows_are_made():
    """Each recording is in a row, and those that are not understood are embeddings by calls that are not made here."""
    rows = {(folder, feature): (decoded, problems) for folder, feature, decoded, problems in google_rows()}
    assert {folder for folder, _ in rows} == set(FOLDERS)
    problems = {place: len(found) for place, (_, found) in rows.items() if found}
    assert problems == {(folder, "embeddings"): count for folder, count in NOT_UNDERSTOOD.items()}
    for folder in FOLDERS:
        first = [features_of(recording)[0] for recording in recordings(folder)]
        for feature in set(first):
            decoded, found = rows[folder, feature]
            assert decoded + len(found) == first.count(feature)


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_exclusions_exist_when_they_are_listed():
    """Every name that is treated apart is a recording, and each excluded path occurs."""
    found = [recording for folder in FOLDERS for recording in recordings(folder)]
    assert {*NOT_CHAT, *FAILING, UNFRAMED} <= {recording.file for recording in found}
    for word in OTHER_PATHS:
        assert any(word in recording.url for recording in found), word
    assert sum(map(is_chat, found)) > 100
