"""Every recorded exchange with an OpenAI-compatible server, decoded and compared with a second, naive reading."""

import json

import msgspec
import pytest

from mana_llm.kit.vectors import base64_of
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderCapabilityError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderServerError,
)
from mana_llm.schema.wire import decode_envelope, encode_json
from tests.chat_recordings import (
    BROKEN,
    CLOUDS,
    NOT_CHAT,
    NOT_UNDERSTOOD,
    OTHER_PATHS,
    WORDS,
    asked,
    body_of,
    calls_in,
    cloud,
    counted_as_openai,
    events_of,
    finishes_in,
    is_chat,
    is_stream,
    is_whole,
    put_events_right,
    put_right,
    said_in,
)
from tests.cloud_recordings import embedder, is_embeddings, is_models
from tests.recordings import ABSENT, ROOT, assert_same_at_every_split, recordings, streamed

MISSING_MODEL = (
    "does not exist",
    "not a valid model ID",
    "supported API model names",
    "model not found",
    "Invalid model",
)
TOO_LONG = ("maximum context length", "max context length", "total length of all messages is too long")


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


def as_openai(body):
    """A recorded whole answer as OpenAI would have given it."""
    expected = json.loads(body)
    for at, choice in enumerate(expected["choices"]):
        choice.setdefault("index", at)
        message = choice["message"]
        message.setdefault("content", None)
        put_right(message)
        for call in message.get("tool_calls") or ():
            call.pop("index", None)
            call.setdefault("type", "function")
            call["function"].setdefault("arguments", "{}")
        if choice.get("finish_reason") is not None:
            choice["finish_reason"] = WORDS.get(choice["finish_reason"], choice["finish_reason"])
    if "usage" in expected:
        expected["usage"] = counted_as_openai(expected["usage"])
    return expected


@pytest.mark.parametrize(("folder", "recording"), found(is_whole))
def test_whole_answer_is_put_into_openais_words_when_it_was_recorded(folder, recording):
    """Every member passes as it came but those that OpenAI's clients would not understand."""
    expected = as_openai(recording.body)
    completion = cloud(folder).decode_chat(recording.body, asked())
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
    events = put_events_right(events_of(body_of(folder, recording)))
    chunks, ending = streamed(cloud(folder).open_stream(asked(stream=True)), [body_of(folder, recording)])
    assert ending == (True, type(None), None)
    said = as_json(chunks)
    assert len(said) == len(events)
    for member in ("content", "reasoning", "reasoning_content", "refusal"):
        assert said_in(said, member) == said_in(events, member)
    assert calls_in(said) == calls_in(events)
    assert finishes_in(said) == finishes_in(events)
    assert [chunk["usage"] for chunk in said] == [event.get("usage") for event in events]
    assert [chunk.finished for chunk in chunks] == [bool(finishes_in([event])) for event in events]
    assert chunks[0].fields.keys() == events[0].keys() - {"choices", "usage"}


@pytest.mark.parametrize(("folder", "recording"), found(is_stream))
def test_stream_begins_each_call_once_when_it_was_recorded(folder, recording):
    """Id, type and name of a call stand in its first piece alone, and arguments are a text in every piece."""
    chunks, _ = streamed(cloud(folder).open_stream(asked(stream=True)), [body_of(folder, recording)])
    pieces = [
        (choice["index"], call)
        for chunk in as_json(chunks)
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls") or ()
    ]
    begun = set()
    for choice, call in pieces:
        first = (choice, call["index"]) not in begun
        begun.add((choice, call["index"]))
        assert bool(call.get("id")) is bool(call.get("type")) is bool(call["function"].get("name")) is first
        assert isinstance(call["function"]["arguments"], str)


@pytest.mark.parametrize(("folder", "recording"), found(is_stream))
def test_stream_is_the_same_when_it_is_split_at_any_byte(folder, recording):
    """Where the network splits a stream changes nothing: chunks, failure, end."""
    assert_same_at_every_split(
        lambda: cloud(folder).open_stream(asked(stream=True)), body_of(folder, recording), b"\n\n"
    )


@pytest.mark.parametrize(("folder", "recording"), found(lambda found: found.file in BROKEN))
def test_stream_keeps_its_beginning_when_an_error_follows_in_it(folder, recording):
    """What came before the error is given out, then the error by its class, and the stream is not whole."""
    events = events_of(recording.body)
    before = put_events_right(events[: next(at for at, event in enumerate(events) if "error" in event)])
    chunks, (done, failure, _) = streamed(cloud(folder).open_stream(asked(stream=True)), [recording.body])
    assert not done
    assert failure is ProviderServerError
    assert said_in(as_json(chunks), "content") == said_in(before, "content")
    assert said_in(as_json(chunks), "reasoning") == said_in(before, "reasoning")


@pytest.mark.parametrize(("folder", "recording"), found(lambda found: found.status >= 400))
def test_error_has_its_class_when_it_was_recorded(folder, recording):
    """A refused key is ours to mend, 429 and 5xx pass, a failed call is sampled again, the rest is the client's."""
    error = cloud(folder).decode_error(recording.status, recording.headers, recording.body)
    text = recording.body.decode()
    if recording.status in (401, 403):
        assert type(error) is ProviderAuthError
        assert "nvalid" not in error.message
    elif recording.status == 429:
        assert type(error) is ProviderRateLimitError
    elif "not_supported_error" in text:
        assert type(error) is ProviderCapabilityError
    elif recording.status >= 500:
        assert type(error) is ProviderServerError
    elif "tool_use_failed" in text:
        assert (type(error), error.health, error.walks_on) == (ProviderServerError, "none", True)
    else:
        assert type(error) is ProviderRequestError
        assert_clients_fault(error, recording, text)


def assert_clients_fault(error, recording, text):
    """A missing model and a prompt that is too long have OpenAI's codes; all else is passed on as it came."""
    if any(words in text for words in MISSING_MODEL):
        assert (error.status, error.code) == (404, "model_not_found")
    elif any(words in text for words in TOO_LONG):
        assert (error.status, error.code) == (400, "context_length_exceeded")
    else:
        assert error.status == recording.status
    if text.startswith("{"):
        body = json.loads(text)
        said = body["error"] if isinstance(body.get("error"), dict) else body
        message = said["message"] if "message" in said else said["error"]
        assert error.message.startswith(message)
        assert error.param == said.get("param")


@pytest.mark.parametrize(("folder", "recording"), found(is_models))
def test_models_are_all_listed_when_the_list_was_recorded(folder, recording):
    """Every row of a recorded list is a model, with the context that the vendor tells."""
    rows = json.loads(recording.body)["data"]
    models = cloud(folder).decode_models(recording.body)
    assert [model.id for model in models] == [row["id"] for row in rows]
    for model, row in zip(models, rows, strict=True):
        told = [row.get(name) for name in ("context_window", "context_length", "max_context_length")]
        told += [
            (row.get("meta") or {}).get("n_ctx"),
            *(host.get("context_length") for host in row.get("providers", ())),
        ]
        assert model.context_window in ([size for size in told if size] or [None])
        if model.context_window is None:
            assert not any(told)


def test_models_can_what_their_rows_say_when_vendors_tell():
    """Mistral's capabilities, OpenRouter's modalities and parameters, Hugging Face's hosts become the same words."""
    if not ROOT.is_dir():
        pytest.skip(ABSENT)
    abilities = {
        folder: {ability for recording in recordings(folder) if is_models(recording)
                 for model in cloud(folder).decode_models(recording.body) for ability in model.capabilities or ()}
        for folder in ("mistral", "openrouter", "groq", "huggingface", "openai-models")
    }  # fmt: skip
    assert {"completion", "tools", "vision", "thinking"} <= abilities["mistral"]
    assert {"tools", "vision", "thinking"} <= abilities["openrouter"]
    assert {"tools"} <= abilities["groq"]
    assert {"tools"} <= abilities["huggingface"]
    assert abilities["openai-models"] == set()


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize(("folder", "recording"), found(lambda found: is_embeddings(found) and found.status == 200))
def test_embeddings_have_the_form_that_was_asked_for_when_they_were_recorded(folder, recording, encoding):
    """Rows, usage and every other member stay; vectors are floats or base64 as the client wants them."""
    expected = json.loads(recording.body)
    count = len(expected["data"])
    request = EmbeddingsRequest({}, "m", ["text"] * count, count, encoding)
    embeddings = embedder(folder, recording).decode_embeddings([recording.body], request)
    said = json.loads(encode_json(embeddings.fields))
    assert [row["index"] for row in said["data"]] == list(range(count))
    assert {name: said[name] for name in said if name not in ("data", "usage")} == {
        name: expected[name] for name in expected if name not in ("data", "usage")
    }
    assert embeddings.usage.tokens_in == expected["usage"]["prompt_tokens"]
    assert not embeddings.estimated
    for row, came in zip(said["data"], sorted(expected["data"], key=lambda row: row["index"]), strict=True):
        vector = came["embedding"] if isinstance(came["embedding"], list) else None
        if encoding == "float":
            assert row["embedding"] == vector or (vector is None and len(row["embedding"]) == 256)
        elif vector:
            assert row["embedding"] == base64_of(vector)
        else:
            assert isinstance(row["embedding"], str)


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_exclusions_exist_when_they_are_listed():
    """Every name and path that is treated apart occurs."""
    all_of_them = [recording for folder in CLOUDS for recording in recordings(folder)]
    assert {*NOT_CHAT, *BROKEN, *NOT_UNDERSTOOD} <= {recording.file for recording in all_of_them}
    for path in OTHER_PATHS:
        assert any(recording.url.split("?")[0].endswith(path) for recording in all_of_them), path


@pytest.mark.parametrize(("folder", "recording"), found(lambda found: found.status == 200 and is_chat(found)))
def test_recorded_request_is_sent_on_whole_when_no_quirk_forbids(folder, recording):
    """What a recorded client sent reaches the server unchanged but for the model and the row's own quirks."""
    body = recording.request.get("json")
    if not isinstance(body, dict) or "messages" not in body:
        return
    if folder == "mistral":
        # Ids of calls that were blotted out have another form than the real ones, which are of nine characters.
        body = json.loads(json.dumps(body).replace("call_REDACTED_", "REDACTED"))
    fields = decode_envelope(encode_json(body))
    request = msgspec.structs.replace(asked(stream=bool(body.get("stream"))), fields=fields)
    call = cloud(folder).encode_chat(request, body.get("model", "m"))
    sent = json.loads(call.body)
    sent.pop("stream_options", None)
    sent.setdefault("model", body.get("model"))
    expected = {name: value for name, value in body.items() if name not in ("stream_options", *call.ignored)}
    expected = {"model": body.get("model", "m"), **expected}
    renamed = {"max_completion_tokens": "max_tokens"} if folder == "together" else {}
    assert sent == {renamed.get(name, name): value for name, value in expected.items()}
