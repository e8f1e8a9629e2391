"""What Gemini's answers, streams and failures become, and that nothing else is ever raised."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.providers.google import Google
from mana_llm.schema import errors
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import Origin

KEY = "AIzaSyMadeUpForTests_0123456789"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
COUNTS = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
ASKED = ChatRequest({}, "", stream=False, include_usage=False)


def google():
    return Google(Origin("https", "generativelanguage.googleapis.com", 443), "", KEY)


def answer(*parts, reason="STOP", **members):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": reason, "index": 0}
    if reason is None:
        del candidate["finishReason"]
    head = {"modelVersion": "m", "responseId": "r", "usageMetadata": COUNTS}
    return json.dumps({"candidates": [candidate], **head, **members}).encode()


def streamed(*bodies):
    decoder = google().open_stream(ASKED)
    chunks = decoder.feed(b"".join(b"data: %b\r\n\r\n" % body for body in bodies))
    return chunks + decoder.end(), decoder


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        (1, "stop"),
        ("MAX_TOKENS", "length"),
        (2, "length"),
        *((name, "content_filter") for name in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        *((name, "content_filter") for name in ("IMAGE_SAFETY", "IMAGE_RECITATION", "LANGUAGE", "OTHER", 3)),
        *((name, "content_filter") for name in ("IMAGE_PROHIBITED_CONTENT", "MODEL_ARMOR")),
        *((name, "stop") for name in ("NO_IMAGE", "IMAGE_OTHER")),
        # What is not known here is as OTHER, Google's own word for it: only STOP says that all was said.
        *((name, "content_filter") for name in ("SOMETHING_NEW", 99)),
    ],
)
def test_finish_is_openais_when_content_came_before_it(reason, finish):
    """After content every reason but a failed call is a finish, plain and streamed."""
    body = answer({"text": "a"}, reason=reason)
    (choice,) = google().decode_chat(body, ASKED).fields["choices"]
    chunks, decoder = streamed(answer({"text": "a"}, reason=None), body)
    assert choice["finish_reason"] == chunks[-1].choices[0]["finish_reason"] == finish
    assert decoder.done


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (answer(reason="SAFETY"), errors.ProviderBlockedError),
        (answer({"text": ""}, reason="RECITATION"), errors.ProviderBlockedError),
        (answer(reason=3), errors.ProviderBlockedError),
        *((answer(reason=name), errors.ProviderBlockedError) for name in ("OTHER", "LANGUAGE", "NO_IMAGE")),
        (answer(reason="SOMETHING_NEW"), errors.ProviderServerError),
        (answer({"text": "", "thoughtSignature": "AAAA"}, reason=99), errors.ProviderServerError),
        (answer(reason="MAX_TOKENS"), errors.ProviderTruncatedError),
        (answer(reason="MALFORMED_FUNCTION_CALL"), errors.ProviderServerError),
        (answer({"text": "a"}, reason="UNEXPECTED_TOOL_CALL"), errors.ProviderServerError),
        (answer({"text": "a"}, reason=13), errors.ProviderServerError),
        (answer({"text": "a"}, reason=None), errors.ProviderProtocolError),
        (answer({"text": "a"}, reason=0), errors.ProviderProtocolError),
        (b'{"promptFeedback":{"blockReason":"SAFETY"}}', errors.ProviderBlockedError),
        (b'{"promptFeedback":{"blockReason":4}}', errors.ProviderBlockedError),
        (answer(reason="STOP", promptFeedback={"blockReason": "OTHER"}), errors.ProviderBlockedError),
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
        google().decode_chat(body, ASKED)
    _, decoder = streamed(body)
    assert type(caught.value) is type(decoder.failure) is error
    assert decoder.done is False
    if any(word in body for word in (b"FUNCTION_CALL", b"TOOL_CALL", b"SOMETHING_NEW", b"99")):
        assert caught.value.health == decoder.failure.health == "none"


BLOCK = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": COUNTS}


@pytest.mark.parametrize("reason", [None, "STOP"])
def test_stream_ends_as_filtered_when_a_block_follows_content(reason):
    """A block after content is a finish and no failure, whatever the candidate said before it."""
    chunks, decoder = streamed(answer({"text": "a"}, reason=reason), json.dumps(BLOCK).encode())
    assert (decoder.done, decoder.failure) == (True, None)
    assert [chunk.choices[0]["finish_reason"] for chunk in chunks] == [None, "content_filter"]
    assert chunks[-1].usage.total_tokens == 7


@pytest.mark.parametrize("reason", [None, "STOP"])
def test_block_is_a_finish_when_it_comes_with_content(reason):
    """Content and a block in one body are content that was cut, plain and streamed."""
    body = answer({"text": "a"}, reason=reason, **BLOCK)
    (choice,) = google().decode_chat(body, ASKED).fields["choices"]
    chunks, decoder = streamed(body)
    assert (decoder.done, chunks[0].choices[0]["delta"]["content"]) == (True, "a")
    assert choice["finish_reason"] == chunks[-1].choices[0]["finish_reason"] == "content_filter"


def test_block_is_an_error_when_only_a_signature_came_before_it():
    """A signature is no content: the request can still be refused as a whole."""
    _, decoder = streamed(answer({"text": "", "thoughtSignature": "AAAA"}, reason=None), json.dumps(BLOCK).encode())
    assert (type(decoder.failure), decoder.failure.status) == (errors.ProviderBlockedError, 422)


@pytest.mark.parametrize("name", ["BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED", 0, "", None])
def test_answer_is_whole_when_its_block_reason_names_nothing(name):
    """A proxy that writes out defaults blocks nothing."""
    body = answer({"text": "a"}, promptFeedback={"blockReason": name})
    (choice,) = google().decode_chat(body, ASKED).fields["choices"]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("nothing", [None, ""])
def test_answer_is_whole_when_its_error_says_nothing(nothing):
    """An `error` of null or without a letter beside a good answer is none, plain and streamed."""
    body = answer({"text": "a"}, error=nothing)
    (choice,) = google().decode_chat(body, ASKED).fields["choices"]
    chunks, decoder = streamed(body)
    assert (choice["message"]["content"], choice["finish_reason"]) == ("a", "stop")
    assert (decoder.done, chunks[0].choices[0]["delta"]["content"]) == (True, "a")


def test_failure_says_nothing_of_the_content_when_gemini_quotes_it():
    """A failed call's words and a block's ratings hold what the model or the client wrote: they stay here."""
    candidate = {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "Malformed: print(secret)", "content": {}}
    broken = answer({"functionCall": {"name": "f", "args": "secret"}})
    for body in (json.dumps({"candidates": [candidate]}).encode(), broken):
        with pytest.raises(errors.ProviderError) as caught:
            google().decode_chat(body, ASKED)
        assert "secret" not in str(caught.value)


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
    (choice,) = google().decode_chat(answer(*parts), ASKED).fields["choices"]
    message = choice["message"]
    first, second = message["tool_calls"]
    assert (message["content"], message["reasoning_content"]) == ("so", "thinking")
    assert first["id"].startswith("call_mana_")
    assert first["extra_content"] == {"google": {"thought_signature": "one"}}
    assert second == {"id": "g1", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    assert message["extra_content"] == {"google": {"thought_signature": "two"}}
    assert choice["finish_reason"] == "tool_calls"


def test_signature_alone_is_no_content_when_it_ends_a_stream():
    """The empty text part with a signature is passed on, with the finish, and does not count as content."""
    chunks, _ = streamed(answer({"text": "a"}, reason=None), answer({"text": "", "thoughtSignature": "s"}))
    assert [chunk.has_content for chunk in chunks] == [True, False]
    assert chunks[1].choices[0]["delta"] == {"extra_content": {"google": {"thought_signature": "s"}}}


def test_one_signature_is_given_when_several_texts_have_one():
    """A message has room for one: the last, said once, since clients join what comes twice into one text."""
    bodies = [answer({"text": name, "thoughtSignature": name * 4}, reason=None) for name in "AB"] + [answer()]
    chunks, _ = streamed(*bodies)
    given = [delta for chunk in chunks for c in chunk.choices if "extra_content" in (delta := c["delta"])]
    assert given == [{"extra_content": {"google": {"thought_signature": "BBBB"}}}]
    parts = [{"text": name, "thoughtSignature": name * 4} for name in "AB"]
    (choice,) = google().decode_chat(answer(*parts), ASKED).fields["choices"]
    assert choice["message"]["extra_content"] == given[0]["extra_content"]


def test_images_are_data_urls_when_the_model_draws():
    """An inline image is kept, as a data URL on the message."""
    blob = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
    (choice,) = google().decode_chat(answer(blob), ASKED).fields["choices"]
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
    whole = google().decode_chat(json.dumps({"candidates": candidates}).encode(), ASKED)
    assert [choice["finish_reason"] for choice in whole.fields["choices"]] == ["stop", "content_filter"]


def test_logprobs_have_openais_shape_when_gemini_gives_them():
    """Chosen and likeliest tokens become rows with their bytes."""
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.5}, {"token": "b"}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}]}],
    }
    candidate = {"content": {"parts": [{"text": "éb"}]}, "finishReason": "STOP", "logprobsResult": result}
    (choice,) = google().decode_chat(json.dumps({"candidates": [candidate]}).encode(), ASKED).fields["choices"]
    row = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert choice["logprobs"]["content"] == [
        {**row, "top_logprobs": [row]},
        {"token": "b", "logprob": 0.0, "bytes": [98], "top_logprobs": []},
    ]


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
    assert len(google().decode_models(json.dumps({"models": rows, "nextPageToken": "more"}).encode())) == 2
    call = google().encode_models()
    assert (call.endpoint.method, call.endpoint.target) == ("GET", "/v1beta/models?pageSize=1000")


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("gemini-3.5-flash", ("completion", "vision", "tools", "thinking")),
        ("gemini-2.5-flash-image", ("completion", "vision", "thinking")),
        ("gemini-2.5-flash-preview-tts", ("completion", "thinking")),
        ("gemma-4-27b", ("completion", "thinking")),
    ],
)
def test_capabilities_say_what_is_known_when_the_list_does_not(name, capabilities):
    """Every Gemini that chats sees and calls functions, but for those that speak or draw."""
    row = {"name": f"models/{name}", "supportedGenerationMethods": ["generateContent"], "thinking": True}
    (model,) = google().decode_models(json.dumps({"models": [row]}).encode())
    assert model.capabilities == capabilities


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
    decoder = google().open_stream(ASKED)
    decoder.feed(body)
    decoder.feed(b"\n\ndata: " + body + b"\n\n")
    decoder.end()
    assert decoder.done or decoder.failure is not None
    assert isinstance(google().decode_error(status, [(b"retry-after", body)], body), errors.ProviderError)
    for decode in (lambda: google().decode_chat(body, ASKED), lambda: google().decode_models(body)):
        try:
            decode()
        except errors.ProviderError:
            continue


@pytest.mark.parametrize("body", [b"[" * 5000, b'{"error":' * 5000, b'{"a":NaN}', b'{"error":"\xff"}', b"", b"null"])
def test_decoders_stand_hostile_json_when_it_is_deep_or_broken(body):
    """Depth, NaN and bad UTF-8 are a provider's failure and nothing else."""
    assert isinstance(google().decode_error(500, [], body), errors.ProviderServerError)
    with pytest.raises(errors.ProviderError):
        google().decode_chat(body, ASKED)
