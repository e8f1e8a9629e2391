"""Every recorded exchange with Ollama's native API, decoded and compared with a second, naive reading."""

import json

import msgspec
import pytest

from mana_llm.providers.ollama import Ollama
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import ProviderRequestError, ProviderTruncatedError
from mana_llm.schema.wire import Origin
from tests.recordings import ABSENT, ROOT, assert_same_at_every_split, cases, recordings, streamed

FOLDER = "ollama-native"
ASKED = ChatRequest({"messages": msgspec.Raw(b'[{"role":"user","content":"hi"}]')}, "", False, include_usage=False)
# By path: what is not chat. /api/tags is models and has a test of its own.
OTHER_PATHS = ("/api/embed", "/api/embeddings", "/api/generate", "/api/pull", "/api/tags")
# By name: fixtures whose url is unknown.
NOT_CHAT = {
    "prism-php+prism--Fixtures__ollama__embeddings-file-1.json.json#0": "an answer of /api/embed",
    "prism-php+prism--Fixtures__ollama__embeddings-input-1.json.json#0": "an answer of /api/embed",
    "prism-php+prism--Fixtures__ollama__embeddings-multiple-inputs-1.json.json#0": "an answer of /api/embed",
    "prism-php+prism--Fixtures__ollama__embeddings-with-dimensions-1.json.json#0": "an answer of /api/embed",
    "prism-php+prism--Fixtures__ollama__structured-with-multiple-tools-structured-mode-1.json.json#0": (
        "an answer of Ollama's /v1, in OpenAI's shape"
    ),
    "prism-php+prism--Fixtures__ollama__structured-with-multiple-tools-structured-mode-2.json.json#0": (
        "an answer of Ollama's /v1, in OpenAI's shape"
    ),
}


def ollama():
    return Ollama(Origin("http", "localhost", 11434))


def is_chat(recording):
    return not recording.url.endswith(OTHER_PATHS) and recording.file not in NOT_CHAT


def lines_of(recording):
    return [json.loads(line) for line in recording.body.splitlines() if line.strip()]


def is_stream(recording):
    return is_chat(recording) and recording.status == 200 and len(recording.body.strip().splitlines()) > 1


def is_whole(recording):
    return is_chat(recording) and recording.status == 200 and not is_stream(recording)


def expected_finish(lines):
    if lines[-1].get("done_reason") == "length":
        return "length"
    return "tool_calls" if any(line["message"].get("tool_calls") for line in lines) else "stop"


def expected_calls(lines):
    called = [call["function"] for line in lines for call in line["message"].get("tool_calls") or ()]
    return [(function["name"], function["arguments"]) for function in called]


def said(lines, name):
    return "".join(line["message"].get(name) or "" for line in lines)


def expected_usage(last):
    return (last.get("prompt_eval_count", 0), last.get("eval_count", 0))


@pytest.mark.parametrize("recording", cases(FOLDER, is_whole))
def test_whole_answer_says_what_ollama_said_when_it_was_recorded(recording):
    """A whole answer keeps text, thinking, calls and counts, with OpenAI's finish reason."""
    lines = lines_of(recording)
    if lines[-1].get("done_reason") == "length" and not said(lines, "content") + said(lines, "thinking"):
        with pytest.raises(ProviderTruncatedError):
            ollama().decode_chat(recording.body, ASKED)
        return
    completion = ollama().decode_chat(recording.body, ASKED)
    (choice,) = completion.fields["choices"]
    message = choice["message"]
    assert (message["content"] or "", message.get("reasoning_content", "")) == (
        said(lines, "content"),
        said(lines, "thinking"),
    )
    calls = message.get("tool_calls", [])
    assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == expected_calls(lines)
    assert len({call["id"] for call in calls}) == len(calls)
    assert all(call["id"] and call["type"] == "function" for call in calls)
    assert choice["finish_reason"] == expected_finish(lines)
    assert completion.fields["model"] == lines[-1]["model"]
    # rig blots the time out with 1970, which is no time.
    blotted = lines[-1]["created_at"].startswith("1970")
    assert blotted or completion.fields["created"] > 1_600_000_000
    usage = completion.usage
    if usage is not None:
        assert (usage.prompt_tokens, usage.completion_tokens) == expected_usage(lines[-1])
        assert usage.total_tokens == sum(expected_usage(lines[-1]))


@pytest.mark.parametrize("recording", cases(FOLDER, is_stream))
def test_stream_says_what_ollama_said_when_it_was_recorded(recording):
    """The chunks of a stream put together are the lines put together; finish and usage are on the last."""
    lines = lines_of(recording)
    decoder = ollama().open_stream(ASKED)
    chunks, ending = streamed(decoder, [recording.body])
    assert ending == (True, type(None), None)
    deltas = [chunk.choices[0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == said(lines, "content")
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == said(lines, "thinking")
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == expected_calls(lines)
    assert [call["index"] for call in calls] == list(range(len(calls)))
    assert len({call["id"] for call in calls}) == len(calls)
    assert [delta.get("role") for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    assert [chunk.finished for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices[0]["finish_reason"] == expected_finish(lines)
    assert all(chunk.fields == chunks[0].fields for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    for chunk in chunks:
        spoken = set(chunk.choices[0]["delta"]) - {"role"}
        assert chunk.has_content is bool(spoken)
    usage = chunks[-1].usage
    if usage is not None:
        assert (usage.prompt_tokens, usage.completion_tokens) == expected_usage(lines[-1])


@pytest.mark.parametrize("recording", cases(FOLDER, lambda found: is_stream(found) or is_whole(found)))
def test_stream_is_the_same_when_it_is_split_at_any_byte(recording):
    """Where the network splits a stream changes nothing; a whole answer is a stream of one line."""
    assert_same_at_every_split(lambda: ollama().open_stream(ASKED), recording.body, b"\n")


@pytest.mark.parametrize("recording", cases(FOLDER, lambda found: found.status >= 400))
def test_error_is_the_clients_when_the_model_was_not_found(recording):
    """The one recorded error is a 404 for a model that is not there."""
    error = ollama().decode_error(recording.status, recording.headers, recording.body)
    assert type(error) is ProviderRequestError
    assert (error.status, error.code) == (404, "model_not_found")


@pytest.mark.parametrize("recording", cases(FOLDER, lambda found: found.url.endswith("/api/tags")))
def test_models_are_all_listed_when_the_list_was_recorded(recording):
    """Every recorded tag is a model, under its own name and with the time of its last change."""
    models = ollama().decode_models(recording.body)
    assert [model.id for model in models] == [tag["name"] for tag in json.loads(recording.body)["models"]]
    assert all(model.created > 1_600_000_000 for model in models)


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_exclusions_exist_when_they_are_listed():
    """Every excluded name is a recording, and no recording is left out without a reason."""
    found = recordings(FOLDER)
    assert set(NOT_CHAT) <= {recording.file for recording in found}
    tried = [r for r in found if is_whole(r) or is_stream(r) or r.status >= 400]
    assert len(tried) + sum(not is_chat(r) for r in found) == len(found)
