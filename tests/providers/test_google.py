"""Gemini by hand: what is sent for each field, what each finish and failure is, and nothing else is raised."""

import copy
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.providers.google import Google
from mana_llm.schema import errors
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import Origin

KEY = "AIzaSyMadeUpForTests_0123456789"
ASKED = [{"role": "user", "content": "hi"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "messages",
        "temperature",
        "top_p",
        "stop",
        "n",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
        "response_format",
        "reasoning_effort",
        "modalities",
        "user",
        "metadata",
    ]
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "x"])
MESSAGES = st.lists(st.fixed_dictionaries({}, optional={"role": ROLES | JSON, "content": JSON}) | JSON, max_size=3)
COUNTS = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}


def google():
    return Google(Origin("https", "generativelanguage.googleapis.com", 443), "", KEY)


def request(stream=False, **fields):
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in {"messages": ASKED, **fields}.items()}
    return ChatRequest(raw, "", stream, include_usage=False)


def sent(model="gemini-3.5-flash", **fields):
    return json.loads(google().encode_chat(request(**fields), model).body)


def answer(*parts, reason="STOP", **members):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": reason, "index": 0}
    if reason is None:
        del candidate["finishReason"]
    head = {"modelVersion": "m", "responseId": "r", "usageMetadata": COUNTS}
    return json.dumps({"candidates": [candidate], **head, **members}).encode()


def streamed(*bodies):
    decoder = google().open_stream()
    chunks = decoder.feed(b"".join(b"data: %b\r\n\r\n" % body for body in bodies))
    return chunks + decoder.end(), decoder


def test_body_holds_only_what_was_asked_when_nothing_else_was_given():
    """No default of ours is sent."""
    assert sent() == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"maxOutputTokens": 6}),
        ({"max_tokens": 5}, {"maxOutputTokens": 5}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "topP": 0.5, "topK": 3}),
        ({"presence_penalty": 1, "frequency_penalty": -1}, {"presencePenalty": 1, "frequencyPenalty": -1}),
        ({"n": 2, "seed": 7}, {"candidateCount": 2, "seed": 7}),
        ({"stop": "x"}, {"stopSequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stopSequences": ["x", "y"]}),
        ({"logprobs": True, "top_logprobs": 2}, {"responseLogprobs": True, "logprobs": 2}),
    ],
)
def test_config_carries_the_sampling_when_it_is_given(fields, config):
    """Each of OpenAI's sampling fields has its place, in camel case."""
    assert sent(**fields)["generationConfig"] == config


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-pro", "low", {"thinkingBudget": 1024}),
        ("gemini-3.5-flash", "minimal", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}),
        ("gemini-flash-latest", "minimal", {"thinkingLevel": "LOW"}),
        ("models/gemini-4-argon", "xhigh", {"thinkingLevel": "HIGH"}),
    ],
)
def test_thinking_follows_the_effort_when_the_model_has_one(model, effort, config):
    """2.5 takes a budget, 3 and later a level, and no model gets what it refuses."""
    call = google().encode_chat(request(reasoning_effort=effort), model)
    assert json.loads(call.body)["generationConfig"] == {"thinkingConfig": config}
    assert call.ignored == ()


def test_effort_is_ignored_when_the_model_has_no_thinking_to_set():
    """Gemma and 2.0 refuse a thinkingConfig, so the field is named instead."""
    call = google().encode_chat(request(reasoning_effort="low"), "gemma-4-27b")
    assert "generationConfig" not in json.loads(call.body)
    assert call.ignored == ("reasoning_effort",)


def test_turns_are_merged_when_neighbours_have_one_role():
    """System and developer messages are the instruction, neighbours one turn, empty answers no turn."""
    messages = [
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        {"role": "assistant", "content": ""},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "e"},
    ]
    body = sent(messages=messages)
    assert body["systemInstruction"] == {"parts": [{"text": "s"}, {"text": "d"}]}
    assert body["contents"] == [
        {"role": "model", "parts": [{"text": "a"}]},
        {"role": "user", "parts": [{"text": "b"}, {"text": "c"}, {"text": "e"}]},
    ]


def test_ignored_names_what_has_no_place_when_it_was_given():
    """Fields that change nothing essential are named, sorted, unless they are null or the gateway's own."""
    fields = {
        "user": "u",
        "logit_bias": {},
        "store": None,
        "stream_options": {},
        "parallel_tool_calls": False,
    }
    messages = [{"role": "user", "content": "hi", "name": "bob"}]
    call = google().encode_chat(request(**fields, messages=messages), "m")
    assert call.ignored == ("logit_bias", "messages[].name", "parallel_tool_calls", "user")


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3.5-flash", "models/gemini-3.5-flash"),
        ("models/gemini-3.5-flash", "models/gemini-3.5-flash"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("../x?key=1#", "models/..%2Fx%3Fkey%3D1%23"),
        ("a\r\nb\ud800", "models/a%0D%0Ab%3F"),
    ],
)
def test_target_names_the_model_when_it_is_asked(model, path):
    """A model's name cannot leave its place in the path, and the key is never in it."""
    plain = google().encode_chat(request(), model).endpoint
    stream = google().encode_chat(request(stream=True), model).endpoint
    assert plain.target == f"/v1beta/{path}:generateContent"
    assert stream.target == f"/v1beta/{path}:streamGenerateContent?alt=sse"
    assert plain.headers == b"Content-Type: application/json\r\nx-goog-api-key: " + KEY.encode() + b"\r\n"
    assert KEY not in repr(plain) + plain.target


@pytest.mark.parametrize("key", ["a\r\nHost: x", "schlüssel", "a\0"])
def test_key_is_refused_when_it_could_not_be_a_header(key):
    """A key with a line break would be two header fields."""
    with pytest.raises(ValueError, match="characters") as caught:
        Google(Origin("https", "h", 443), "", key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"temperature": "hot"}, errors.RequestError, "temperature"),
        ({"n": 0}, errors.RequestError, "n"),
        ({"reasoning_effort": "much"}, errors.RequestError, "reasoning_effort"),
        ({"messages": [*ASKED, {"role": "user", "content": 5}]}, errors.RequestError, "messages[1].content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, errors.RequestError, "messages[0].role"),
        ({"messages": [{"role": "system", "content": "x"}]}, errors.ProviderCapabilityError, "messages"),
        ({"tools": [{"type": "function"}]}, errors.ProviderCapabilityError, "tools"),
        ({"response_format": {"type": "json_schema"}}, errors.ProviderCapabilityError, "response_format"),
        (
            {"messages": [{"role": "function", "content": "x"}]},
            errors.ProviderCapabilityError,
            "messages[0].role",
        ),
    ],
)
def test_request_is_refused_with_its_place_when_it_cannot_be_sent(fields, error, param):
    """Mistakes and impossible wishes name their place."""
    with pytest.raises(error) as caught:
        google().encode_chat(request(**fields), "m")
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        (1, "stop"),
        ("MAX_TOKENS", "length"),
        (2, "length"),
        *((name, "content_filter") for name in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        *((name, "content_filter") for name in ("IMAGE_SAFETY", "IMAGE_RECITATION", "LANGUAGE", "OTHER", 3)),
        ("NO_IMAGE", "stop"),
        ("SOMETHING_NEW", "stop"),
        (99, "stop"),
    ],
)
def test_finish_is_openais_when_content_came_before_it(reason, finish):
    """After content every reason but a failed call is a finish, plain and streamed."""
    body = answer({"text": "a"}, reason=reason)
    (choice,) = google().decode_chat(body).fields["choices"]
    chunks, decoder = streamed(answer({"text": "a"}, reason=None), body)
    assert choice["finish_reason"] == chunks[-1].choices[0]["finish_reason"] == finish
    assert decoder.done


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (answer(reason="SAFETY"), errors.ProviderBlockedError),
        (answer({"text": ""}, reason="RECITATION"), errors.ProviderBlockedError),
        (answer(reason=3), errors.ProviderBlockedError),
        (answer(reason="MAX_TOKENS"), errors.ProviderTruncatedError),
        (answer(reason="MALFORMED_FUNCTION_CALL"), errors.ProviderServerError),
        (answer({"text": "a"}, reason="UNEXPECTED_TOOL_CALL"), errors.ProviderServerError),
        (answer({"text": "a"}, reason=13), errors.ProviderServerError),
        (answer({"text": "a"}, reason=None), errors.ProviderProtocolError),
        (answer({"text": "a"}, reason=0), errors.ProviderProtocolError),
        (b'{"promptFeedback":{"blockReason":"SAFETY"}}', errors.ProviderBlockedError),
        (b'{"promptFeedback":{"blockReason":4}}', errors.ProviderBlockedError),
        (b'{"usageMetadata":{"promptTokenCount":1}}', errors.ProviderProtocolError),
        (answer({"functionCall": {"name": "f", "args": [1]}}), errors.ProviderProtocolError),
        (b'{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}', errors.ProviderServerError),
        (
            b'{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}',
            errors.ProviderRateLimitError,
        ),
        (b'{"error":"what"}', errors.ProviderProtocolError),
        (b"<html>", errors.ProviderProtocolError),
        (b"{}", errors.ProviderProtocolError),
    ],
)
def test_failure_is_the_same_when_it_is_plain_or_streamed(body, error):
    """A block, a cut, a failed call, an error in a 200: one class both ways."""
    with pytest.raises(error) as caught:
        google().decode_chat(body)
    _, decoder = streamed(body)
    assert type(caught.value) is type(decoder.failure) is error
    assert decoder.done is False
    if b"FUNCTION_CALL" in body or b"TOOL_CALL" in body:
        assert caught.value.health == decoder.failure.health == "none"


def test_failure_follows_the_good_chunks_when_a_stream_breaks():
    """What came before an error in the stream is not lost, and what comes after is not read."""
    error = b'{"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}'
    chunks, decoder = streamed(answer({"text": "a"}, reason=None), error, answer({"text": "b"}))
    assert [chunk.choices[0]["delta"] for chunk in chunks] == [{"role": "assistant", "content": "a"}]
    assert type(decoder.failure) is errors.ProviderServerError
    assert decoder.feed(b"data: {}\n\n") == decoder.end() == []


def test_usage_is_the_last_events_when_counts_change():
    """The counts of the last event count, with the thoughts and the tools' prompts added where they belong."""
    last = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 2,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 4,
    }
    first = answer({"text": "a"}, usageMetadata={"promptTokenCount": 99, "candidatesTokenCount": 99})
    chunks, _ = streamed(first, json.dumps({"usageMetadata": last}).encode())
    assert [chunk.usage for chunk in chunks[:-1]] == [None]
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (15, 5, 20)
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert usage.completion_tokens_details.reasoning_tokens == 3


def test_signatures_stay_with_their_parts_when_an_answer_has_them():
    """A signature is on the call that it came with, or on the message for a part without a call."""
    parts = [
        {"text": "thinking", "thought": True},
        {"text": "so"},
        {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "one"},
        {"functionCall": {"id": "g1", "name": "g"}},
        {"text": "", "thoughtSignature": "two"},
    ]
    (choice,) = google().decode_chat(answer(*parts)).fields["choices"]
    message = choice["message"]
    first, second = message["tool_calls"]
    assert (message["content"], message["reasoning_content"]) == ("so", "thinking")
    assert first["id"].startswith("call_mana_")
    assert first["extra_content"] == {"google": {"thought_signature": "one"}}
    assert second == {"id": "g1", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    assert message["extra_content"] == {"google": {"thought_signature": "two"}}
    assert choice["finish_reason"] == "tool_calls"


def test_signature_alone_is_no_content_when_it_ends_a_stream():
    """The empty text part with a signature is passed on and does not count as content."""
    chunks, _ = streamed(answer({"text": "a"}, reason=None), answer({"text": "", "thoughtSignature": "s"}))
    assert [chunk.has_content for chunk in chunks] == [True, False, False]
    assert chunks[1].choices[0]["delta"] == {"extra_content": {"google": {"thought_signature": "s"}}}


def test_images_are_data_urls_when_the_model_draws():
    """An inline image is kept, as a data URL on the message."""
    blob = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
    (choice,) = google().decode_chat(answer(blob)).fields["choices"]
    assert choice["message"]["images"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]


def test_choices_are_kept_apart_when_several_are_asked():
    """Candidates are choices by their index, each with role and finish; one blocked spoils no other."""
    candidates = [
        {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"},
        {"content": {}, "finishReason": "SAFETY", "index": 1},
    ]
    chunks, decoder = streamed(json.dumps({"candidates": candidates}).encode())
    assert decoder.done
    assert [(c["index"], c["delta"], c["finish_reason"]) for chunk in chunks for c in chunk.choices] == [
        (0, {"role": "assistant", "content": "a"}, None),
        (0, {}, "stop"),
        (1, {"role": "assistant"}, "content_filter"),
    ]
    whole = google().decode_chat(json.dumps({"candidates": candidates}).encode())
    assert [choice["finish_reason"] for choice in whole.fields["choices"]] == ["stop", "content_filter"]


def test_logprobs_have_openais_shape_when_gemini_gives_them():
    """Chosen and likeliest tokens become rows with their bytes."""
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.5}, {"token": "b"}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}]}],
    }
    candidate = {"content": {"parts": [{"text": "éb"}]}, "finishReason": "STOP", "logprobsResult": result}
    (choice,) = google().decode_chat(json.dumps({"candidates": [candidate]}).encode()).fields["choices"]
    row = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert choice["logprobs"]["content"] == [
        {**row, "top_logprobs": [row]},
        {"token": "b", "logprob": 0.0, "bytes": [98], "top_logprobs": []},
    ]


def problem(code, status, message="words", *details):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
BAD_KEY = {"reason": "API_KEY_INVALID"}
TOO_LONG = "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (400, problem(400, "INVALID_ARGUMENT"), errors.ProviderRequestError, "INVALID_ARGUMENT"),
        (400, problem(400, "INVALID_ARGUMENT", "x", BAD_KEY), errors.ProviderAuthError, "provider_auth"),
        (
            400,
            problem(400, "INVALID_ARGUMENT", TOO_LONG),
            errors.ProviderRequestError,
            "context_length_exceeded",
        ),
        (400, problem(400, "FAILED_PRECONDITION"), errors.ProviderRequestError, "FAILED_PRECONDITION"),
        (401, problem(401, "UNAUTHENTICATED"), errors.ProviderAuthError, "provider_auth"),
        (402, problem(402, ""), errors.ProviderQuotaError, "insufficient_quota"),
        (403, problem(403, "PERMISSION_DENIED"), errors.ProviderAuthError, "provider_auth"),
        (404, problem(404, "NOT_FOUND"), errors.ProviderRequestError, "model_not_found"),
        (408, {}, errors.ProviderServerError, "provider_server"),
        (429, problem(429, "RESOURCE_EXHAUSTED"), errors.ProviderRateLimitError, "rate_limit_exceeded"),
        (
            429,
            problem(429, "RESOURCE_EXHAUSTED", "x", PER_DAY),
            errors.ProviderQuotaError,
            "insufficient_quota",
        ),
        (429, [problem(429, "RESOURCE_EXHAUSTED")], errors.ProviderRateLimitError, "rate_limit_exceeded"),
        (499, problem(499, "CANCELLED"), errors.ProviderServerError, "provider_server"),
        (500, problem(500, "INTERNAL"), errors.ProviderServerError, "provider_server"),
        (503, problem(503, "UNAVAILABLE"), errors.ProviderServerError, "provider_server"),
        (504, problem(504, "DEADLINE_EXCEEDED"), errors.ProviderServerError, "provider_server"),
        (307, {}, errors.ProviderServerError, "provider_server"),
        (200, [problem(503, "UNAVAILABLE")], errors.ProviderServerError, "provider_server"),
        (200, {}, errors.ProviderProtocolError, "provider_protocol"),
        (200, [], errors.ProviderProtocolError, "provider_protocol"),
        (413, "<html>", errors.ProviderRequestError, None),
    ],
)
def test_error_has_its_class_when_gemini_answers_a_status(status, body, error, code):
    """Each row of the table of statuses, in an array or not."""
    got = google().decode_error(status, [], json.dumps(body).encode())
    assert (type(got), got.code) == (error, code)


@pytest.mark.parametrize(("delay", "wait"), [("48s", 48.0), ("34.4s", 34.4), ("-1s", None), ("soon", None), (5, None)])
def test_wait_is_the_retry_infos_when_no_header_says_it(delay, wait):
    """Google puts the wait into the details; a header, if there is one, goes before it."""
    body = json.dumps(problem(429, "RESOURCE_EXHAUSTED", "x", {"retryDelay": delay}, 7)).encode()
    assert google().decode_error(429, [], body).retry_after_s == wait
    assert google().decode_error(429, [(b"retry-after", b"2")], body).retry_after_s == 2.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_key_is_in_no_message_when_google_quotes_it(status):
    """A provider that quotes our key does not make us say it."""
    body = json.dumps(problem(status, "X", f"Consumer 'api_key:{KEY}' has been suspended.", BAD_KEY)).encode()
    assert KEY not in google().decode_error(status, [], body).message


def test_models_are_those_that_chat_or_embed_when_they_are_listed():
    """Names lose `models/`; methods become capabilities; the rest of the list is left out."""
    rows = [
        {
            "name": "models/a",
            "inputTokenLimit": 9,
            "supportedGenerationMethods": ["generateContent"],
            "thinking": True,
        },
        {"name": "models/e", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/v", "supportedGenerationMethods": ["predictLongRunning"]},
        {},
    ]
    models = google().decode_models(json.dumps({"models": rows}).encode())
    assert [(model.id, model.context_window, model.capabilities) for model in models] == [
        ("a", 9, ("completion", "thinking")),
        ("e", None, ("embedding",)),
    ]
    assert google().decode_models(b"{}") == []
    call = google().encode_models()
    assert (call.endpoint.method, call.endpoint.target) == ("GET", "/v1beta/models?pageSize=1000")


@given(st.dictionaries(NAMES, JSON, max_size=4), MESSAGES | JSON, st.booleans(), st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_encode_raises_only_what_it_may_when_values_are_arbitrary(fields, messages, stream, model):
    """Any JSON in any field gives a body or one of two errors, twice the same, and changes no request."""
    asked = request(stream, **{"messages": messages, **fields})
    before = copy.copy(asked.fields)
    outcomes = []
    for _ in range(2):
        try:
            call = google().encode_chat(asked, model)
            outcomes.append((json.loads(call.body), call.ignored, call.endpoint.target))
        except (errors.RequestError, errors.ProviderCapabilityError) as error:
            outcomes.append((str(error), error.param))
    assert outcomes[0] == outcomes[1]
    assert asked.fields == before


ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(
            st.fixed_dictionaries({}, optional={"content": JSON, "finishReason": JSON, "index": JSON}),
            max_size=2,
        ),
        "promptFeedback": JSON,
        "error": JSON | st.fixed_dictionaries({"code": JSON, "message": JSON, "details": JSON}),
    },
)


@given(
    st.binary(max_size=200) | (JSON | ANSWERS).map(lambda value: json.dumps(value).encode()),
    st.integers(0, 700),
)
@settings(max_examples=200, deadline=None)
def test_decoders_raise_only_provider_errors_when_bytes_are_arbitrary(body, status):
    """No bytes break a decoder: streams set `failure`, all else is a ProviderError."""
    decoder = google().open_stream()
    decoder.feed(body)
    decoder.feed(b"\n\ndata: " + body + b"\n\n")
    decoder.end()
    assert decoder.done or decoder.failure is not None
    assert isinstance(google().decode_error(status, [(b"retry-after", body)], body), errors.ProviderError)
    for decode in (google().decode_chat, google().decode_models):
        try:
            decode(body)
        except errors.ProviderError:
            continue


@pytest.mark.parametrize("body", [b"[" * 5000, b'{"error":' * 5000, b'{"a":NaN}', b'{"error":"\xff"}', b"", b"null"])
def test_decoders_stand_hostile_json_when_it_is_deep_or_broken(body):
    """Depth, NaN and bad UTF-8 are a provider's failure and nothing else."""
    assert isinstance(google().decode_error(500, [], body), errors.ProviderServerError)
    with pytest.raises(errors.ProviderError):
        google().decode_chat(body)
