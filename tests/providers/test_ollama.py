"""What Ollama's answers, streams and failures become, and that nothing else is ever raised."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.providers.failures import failure_for, retry_after_s
from mana_llm.schema import errors
from tests.providers.ollama_world import line, ollama, request, says

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


DONE = line(done=True, done_reason="stop", message={"content": ""}, prompt_eval_count=3, eval_count=4)


def streamed(*lines):
    decoder = ollama().open_stream(request())
    return decoder.feed(b"".join(lines)) + decoder.end(), decoder


def test_chunks_open_with_the_role_when_a_stream_begins():
    """The first chunk says the role, the last finish and usage; lines that add nothing give no chunk."""
    chunks, decoder = streamed(says(content=""), says(content="a"), says(content="", thinking="b"), DONE)
    assert [chunk.choices[0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "a"},
        {"reasoning_content": "b"},
        {},
    ]
    assert chunks[0].fields == {"object": "chat.completion.chunk", "model": "m", "created": 1785220683}
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (3, 4)
    assert (decoder.done, decoder.failure) == (True, None)


def test_calls_have_ids_of_their_own_when_the_server_gives_none_or_doubles():
    """Ids are kept where they are unique, else made, the same each time."""
    function = {"name": "f", "arguments": {"x": 1.50}}
    calls = [{"function": function}, {"id": "a", "function": function}, {"id": "a", "function": function}]
    first, _ = streamed(says(content="", tool_calls=calls), says(content="", tool_calls=calls[:1]), DONE)
    again, _ = streamed(says(content="", tool_calls=calls), says(content="", tool_calls=calls[:1]), DONE)
    got = [call for chunk in first for call in chunk.choices[0]["delta"].get("tool_calls", [])]
    assert first == again
    assert [call["index"] for call in got] == [0, 1, 2, 3]
    assert len({call["id"] for call in got}) == 4
    assert got[1]["id"] == "a"
    assert got[0]["id"].startswith("call_mana_")
    assert got[0]["function"] == {"name": "f", "arguments": '{"x":1.5}'}
    assert first[-1].choices[0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("lines", "failure"),
    [
        (
            [says(content="a"), b'{"error":"model runner has unexpectedly stopped"}\n'],
            errors.ProviderServerError,
        ),
        ([says(content="a"), b'{"error":null}\n'], errors.ProviderServerError),
        ([says(content="a"), b"<html>\n"], errors.ProviderProtocolError),
        ([says(content="a"), b"[1]\n"], errors.ProviderProtocolError),
        ([says(content="a")], errors.ProviderProtocolError),
        ([says(content="a"), DONE[:-20]], errors.ProviderProtocolError),
        (
            [says(content="a"), says(tool_calls=[{"function": {"name": "f", "arguments": [1]}}])],
            errors.ProviderProtocolError,
        ),
    ],
)
def test_failure_follows_the_good_chunks_when_a_stream_breaks(lines, failure):
    """What came before the failure is not lost, and what comes after it is not read."""
    chunks, decoder = streamed(*lines, *([DONE] if b"\n" in lines[-1] and len(lines) > 1 else []))
    assert [chunk.choices[0]["delta"].get("content") for chunk in chunks] == ["a"]
    assert type(decoder.failure) is failure
    assert decoder.done is False
    assert decoder.feed(DONE) == decoder.end() == []


def test_truncation_is_an_error_when_no_content_came_before_it():
    """A ceiling before any content is an error, after content a finish; plain and streamed alike."""
    cut = line(done=True, done_reason="length", message={"content": ""})
    _, decoder = streamed(cut)
    assert type(decoder.failure) is errors.ProviderTruncatedError
    with pytest.raises(errors.ProviderTruncatedError):
        ollama().decode_chat(cut, request())
    for content in ({"content": "a"}, {"thinking": "a"}):
        chunks, decoder = streamed(says(**content), cut)
        assert chunks[-1].choices[0]["finish_reason"] == "length"
        assert decoder.done


@pytest.mark.parametrize("message", [{}, {"message": None}])
def test_answer_without_a_message_is_a_protocol_error_when_it_is_done(message):
    """An empty message is an empty answer; none at all is not what the API promises."""
    _, decoder = streamed(line(done=True, done_reason="stop", **message))
    assert type(decoder.failure) is errors.ProviderProtocolError
    with pytest.raises(errors.ProviderProtocolError):
        ollama().decode_chat(line(done=True, done_reason="stop", **message), request())


def test_line_too_long_is_a_protocol_error_when_it_outgrows_its_limit():
    """A line without end does not fill the memory."""
    decoder = ollama().open_stream(request())
    for _ in range(9):
        decoder.feed(b"x" * 1024 * 1024)
    assert type(decoder.failure) is errors.ProviderProtocolError


def test_logprobs_have_openais_shape_when_the_server_gives_them():
    """Ollama's rows are OpenAI's, with every member present."""
    rows = [{"token": "a", "logprob": -0.5, "bytes": [97]}]
    body = line(done=True, message={"content": "a"}, logprobs=rows)
    (choice,) = ollama().decode_chat(body, request()).fields["choices"]
    assert choice["logprobs"] == {"content": [{**rows[0], "top_logprobs": []}], "refusal": None}


@pytest.mark.parametrize(
    ("status", "text", "error", "code"),
    [
        (400, "model is required", errors.ProviderRequestError, None),
        (400, '"m" does not support tools', errors.ProviderCapabilityError, "provider_capability"),
        (400, '"m" does not support chat', errors.ProviderCapabilityError, "provider_capability"),
        (400, "invalid input type", errors.ProviderRequestError, None),
        (400, "top_logprobs must be between 0 and 20", errors.ProviderRequestError, None),
        (404, 'model "x" not found, try pulling it first', errors.ProviderRequestError, "model_not_found"),
        (400, '"m" does not support thinking', errors.ProviderCapabilityError, "provider_capability"),
        (
            400,
            "the input length exceeds the context length",
            errors.ProviderRequestError,
            "context_length_exceeded",
        ),
        (401, "unauthorized", errors.ProviderAuthError, "provider_auth"),
        (403, "cloud is disabled", errors.ProviderAuthError, "provider_auth"),
        (402, "pay", errors.ProviderQuotaError, "insufficient_quota"),
        (404, "model 'x' not found", errors.ProviderRequestError, "model_not_found"),
        (408, "x", errors.ProviderServerError, "provider_server"),
        (409, "x", errors.ProviderServerError, "provider_server"),
        (425, "x", errors.ProviderServerError, "provider_server"),
        (429, "usage limit", errors.ProviderRateLimitError, "rate_limit_exceeded"),
        (498, "x", errors.ProviderServerError, "provider_server"),
        (499, "request canceled", errors.ProviderServerError, "provider_server"),
        (500, "model runner has unexpectedly stopped", errors.ProviderServerError, "provider_server"),
        (502, "x", errors.ProviderServerError, "provider_server"),
        (
            503,
            "server busy, please try again.  maximum pending requests exceeded",
            errors.ProviderServerError,
            "provider_server",
        ),
        (503, "Server overloaded, please retry shortly (ref: x)", errors.ProviderServerError, "provider_server"),
        (302, "x", errors.ProviderServerError, "provider_server"),
        (200, "late", errors.ProviderServerError, "provider_server"),
    ],
)
def test_error_has_its_class_when_ollama_answers_a_status(status, text, error, code):
    """Each row of the table of statuses."""
    got = ollama().decode_error(status, [], json.dumps({"error": text}).encode())
    assert (type(got), got.code) == (error, code)
    if error is errors.ProviderRequestError:
        assert (got.status, got.message) == (status, text)


def test_cache_hits_are_told_when_the_server_tells_them():
    """The cached part of the prompt is a part of its tokens; a server that says nothing of it gives no details."""
    told = line(done=True, message={"content": "a"}, prompt_eval_count=9, prompt_eval_cached_count=5, eval_count=1)
    usage = ollama().decode_chat(told, request()).usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (9, 5)
    assert ollama().decode_chat(DONE, request()).usage.prompt_tokens_details is None


def test_error_is_a_protocol_error_when_a_200_is_not_ollamas():
    """HTML with a 200 is no answer; a 404 page says nothing of a model."""
    assert type(ollama().decode_error(200, [], b"<html>")) is errors.ProviderProtocolError
    assert ollama().decode_error(404, [], b"<html>").code is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"retry-after", b"12")], 12.0),
        ([(b"retry-after", b" 1.5 ")], 1.5),
        ([(b"retry-after", b"-3")], None),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", b"1e9")], None),
        ([(b"retry-after", b"Wed, 21 Oct 2026 07:28:00 GMT")], None),
        ([(b"retry-after", b"5"), (b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after", b"5"), (b"retry-after-ms", b"soon")], 5.0),
        ([(b"retry-after", b"9" * 400)], None),
    ],
)
def test_retry_after_is_read_when_it_is_a_number(headers, expected):
    """Seconds and milliseconds count, everything else is no wish."""
    assert retry_after_s(headers) == expected
    assert ollama().decode_error(503, headers, b"{}").retry_after_s == expected


def test_refused_key_is_not_quoted_when_the_provider_quotes_it():
    """The words of an answer that refuses our key stay here."""
    assert "sk-" not in failure_for(401, "Incorrect API key provided: sk-ab***yz").message


def test_quota_is_told_from_a_rate_when_the_code_says_so():
    """A 429 with the code of an empty account is no mere rate limit."""
    assert type(failure_for(429, "x", code="insufficient_quota")) is errors.ProviderQuotaError
    assert type(failure_for(500, "x", code="insufficient_quota")) is errors.ProviderServerError


@pytest.mark.parametrize(("body", "ids"), [(b'{"models":null}', []), (b'{"models":[{"model":"a"},{}]}', ["a"])])
def test_models_are_listed_when_rows_are_thin(body, ids):
    """A server without models and rows without a name are no errors."""
    assert [model.id for model in ollama().decode_models(body)] == ids


def test_models_say_what_they_can_when_the_server_is_new():
    """Context, capabilities and time are taken over."""
    row = {"name": "a:latest", "modified_at": "2026-01-01T00:00:00.5+01:00", "capabilities": ["tools"]}
    (model,) = ollama().decode_models(json.dumps({"models": [{**row, "details": {"context_length": 9}}]}).encode())
    assert (model.created, model.context_window, model.capabilities) == (1767222000, 9, ("tools",))


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()), st.integers(0, 700))
@settings(max_examples=150, deadline=None)
def test_decoders_raise_only_provider_errors_when_bytes_are_arbitrary(body, status):
    """No bytes break a decoder: streams set `failure`, all else is a ProviderError."""
    decoder = ollama().open_stream(request())
    decoder.feed(body)
    decoder.end()
    assert decoder.done or decoder.failure is not None
    assert isinstance(ollama().decode_error(status, [(b"retry-after", body)], body), errors.ProviderError)
    for decode in (lambda said: ollama().decode_chat(said, request()), ollama().decode_models):
        try:
            decode(body)
        except errors.ProviderError:
            continue


@pytest.mark.parametrize("body", [b"[" * 5000, b'{"error":' * 5000, b'{"a":NaN}', b'{"error":"\xff"}', b"", b"null"])
def test_decoders_stand_hostile_json_when_it_is_deep_or_broken(body):
    """Depth, NaN and bad UTF-8 are a provider's failure and nothing else."""
    assert isinstance(ollama().decode_error(500, [], body), errors.ProviderServerError)
    with pytest.raises(errors.ProviderError):
        ollama().decode_chat(body, request())
