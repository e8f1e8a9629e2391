"""What the OpenAI-compatible provider sends and understands beyond what was recorded: quirks, calls, errors."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mana_llm.providers.base_url import base_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.compatible_answer import finish_word
from mana_llm.providers.compatible_quirks import EmbeddingQuirks, Quirks
from mana_llm.providers.failures.resets import reset_after_s
from mana_llm.providers.table import ROWS
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import (
    ProviderBlockedError,
    ProviderCapabilityError,
    ProviderProtocolError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderServerError,
)
from mana_llm.schema.wire import encode_json
from tests.recordings import streamed

BASE = base_of("https://cloud.example/v1")
THOUGHT = {"role": "assistant", "content": "4", "reasoning_content": "2+2"}


def row(name):
    """The provider of a row."""
    return Compatible(name, BASE, "key", next(row.quirks for row in ROWS if row.name == name))


def chat(*, stream=False, **fields):
    raw = {name: msgspec.Raw(encode_json(value)) for name, value in {"messages": [], **fields}.items()}
    return ChatRequest(raw, "m", stream=stream, include_usage=False)


def sent(name, **fields):
    """What a row sends for a request, and what it ignores."""
    call = row(name).encode_chat(chat(**fields), "m")
    return json.loads(call.body), call.ignored


def test_mistral_gets_its_own_names_when_openais_are_given():
    """Seed, ceiling and "must call" have other names there; what its closed schema refuses is named as ignored."""
    body, ignored = sent("mistral", seed=7, max_completion_tokens=5, tool_choice="required", store=True, user="me")
    assert body == {"messages": [], "model": "m", "random_seed": 7, "max_tokens": 5, "tool_choice": "any"}
    assert set(ignored) == {"store", "user"}
    named = {"type": "function", "function": {"name": "f"}}
    assert sent("mistral", tool_choice=named)[0]["tool_choice"] == named


@pytest.mark.parametrize("name", ["together", "deepseek", "nvidia"])
def test_ceiling_is_renamed_when_only_the_old_name_is_known(name):
    """`max_completion_tokens` becomes `max_tokens`, and a null one is left out."""
    assert sent(name, max_completion_tokens=5)[0]["max_tokens"] == 5
    assert "max_completion_tokens" not in sent(name, max_completion_tokens=None)[0]


def test_request_is_the_clients_own_when_the_row_has_no_quirk():
    """OpenAI gets every member as it came, unknown ones and reasoning included."""
    fields = {"messages": [THOUGHT], "seed": 7, "max_completion_tokens": 5, "unheard_of": {"a": [1.0, 2e3]}}
    assert sent("openai", **fields) == ({**fields, "model": "m"}, ())


@pytest.mark.parametrize(
    ("name", "reasoning"),
    [
        ("openai", {"reasoning_content": "2+2"}),
        ("deepseek", {"reasoning_content": "2+2"}),
        ("moonshot", {"reasoning_content": "2+2"}),
        ("groq", {"reasoning": "2+2"}),
        ("cerebras", {"reasoning": "2+2"}),
        ("mistral", {}),
    ],
)
@pytest.mark.parametrize("given", ["reasoning_content", "reasoning", "both"])
def test_reasoning_goes_back_under_the_name_that_is_taken_when_a_client_returns_it(name, reasoning, given):
    """DeepSeek must have it and Mistral must not; whichever spelling the client kept is turned into theirs."""
    members = {"both": ("reasoning_content", "reasoning")}.get(given, (given,))
    message = {"role": "assistant", "content": "4", **dict.fromkeys(members, "2+2")}
    body, ignored = sent(name, messages=[{"role": "user", "content": "2+2?"}, message])
    if name == "openai":
        assert body["messages"][1] == message
        return
    assert body["messages"][1] == {"role": "assistant", "content": "4", **reasoning}
    assert set(ignored) == ({f"messages.{member}" for member in members} if name == "mistral" else set())


def test_messages_stay_as_bytes_when_no_reasoning_is_in_them():
    """A quirk of reasoning costs nothing where there is none: not a byte of the messages changes."""
    raw = msgspec.Raw(b'[ {"role":"user",  "content":"a \\u00e9 1e400"} ]')
    request = ChatRequest({"messages": raw}, "m", stream=False, include_usage=False)
    assert bytes(raw) in row("deepseek").encode_chat(request, "m").body


def test_stream_asks_for_usage_when_the_server_takes_it():
    """Streams ask for usage and keep the client's other options; a server that refuses them gets none."""
    options = {"include_obfuscation": False}
    body = json.loads(row("openai").encode_chat(chat(stream=True, stream_options=options), "m").body)
    assert body["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    refusing = Compatible("x", BASE, "", Quirks(asks_usage=False))
    assert "stream_options" not in json.loads(refusing.encode_chat(chat(stream=True), "m").body)


def deltas(*tool_calls):
    """The pieces that a client gets for these tool calls, one delta each."""
    events = [{"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]} for calls in tool_calls]
    body = b"".join(b"data: %b\n\n" % encode_json(event) for event in events) + b"data: [DONE]\n\n"
    chunks, (done, *_) = streamed(row("openai").open_stream(chat(stream=True)), [body])
    assert done
    return [json.loads(encode_json(chunk.choices[0]["delta"]["tool_calls"])) for chunk in chunks]


def call(index=None, call_id=None, name=None, arguments="", **more):
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "type": "function", "function": function, **more}


def test_calls_are_numbered_when_the_server_gives_no_index():
    """Calls without an index are told apart by id, wherever their pieces stand."""
    pieces = deltas([call(call_id="a", name="f"), call(call_id="b", name="g")], [call(call_id="a", arguments="{}")])
    assert [(piece["index"], piece.get("id")) for piece in pieces[0]] == [(0, "a"), (1, "b")]
    assert pieces[1] == [{"index": 0, "function": {"arguments": "{}"}}]


def test_calls_are_told_apart_when_two_have_one_index():
    """One index for two ids is two calls; so is one for two names in the same delta."""
    assert [[piece["index"] for piece in delta] for delta in deltas([call(0, "a", "f")], [call(0, "b", "g")])] == [
        [0],
        [1],
    ]
    ((one, two),) = deltas([call(0, None, "f"), call(0, None, "f")])
    assert (one["index"], two["index"]) == (0, 1)
    assert one["id"] != two["id"]
    assert one["id"].startswith("call_mana_")


def test_call_goes_on_when_its_pieces_have_neither_index_nor_id():
    """A bare piece belongs to the last call; one that names a function begins the next."""
    pieces = deltas([call(name="f")], [call(arguments="{")], [call(arguments="}")], [call(name="f")])
    assert [delta[0]["index"] for delta in pieces] == [0, 0, 0, 1]


def test_call_is_said_once_when_the_server_repeats_itself():
    """Id, type and name stand in the first piece alone; null arguments are "", an object is its text."""
    pieces = deltas([call(0, "a", "f", None)], [call(0, "a", "f", {"x": 1})], [call(0, "", "", "!")])
    assert pieces[0] == [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]
    assert pieces[1] == [{"index": 0, "function": {"arguments": '{"x":1}'}}]
    assert pieces[2] == [{"index": 0, "function": {"arguments": "!"}}]


def test_call_keeps_what_is_not_openais_when_it_is_streamed():
    """Members that a provider wants back, such as thought signatures, pass in every piece."""
    ((piece,),) = deltas([call(0, "a", "f", extra_content={"google": {"thought_signature": "s"}})])
    assert piece["extra_content"] == {"google": {"thought_signature": "s"}}


def test_call_is_found_by_its_id_when_a_later_one_fits_by_index():
    """An id says most: the piece goes on with its call, wherever others with the same index stand."""
    pieces = deltas([call(call_id="a"), call(0, None, "f"), call(0, "a", "f")])
    assert [(piece["index"], piece.get("id", "")[:1]) for piece in pieces[0]] == [(0, "a"), (1, "c"), (0, "")]


@given(
    st.lists(
        st.lists(
            st.builds(
                call,
                index=st.none() | st.integers(0, 2),
                call_id=st.none() | st.sampled_from(["", "a", "b"]),
                name=st.none() | st.sampled_from(["", "f"]),
                arguments=st.none() | st.sampled_from(["", "{"]),
            ),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_calls_can_be_put_together_when_anything_comes(tool_calls):
    """Indexes begin at 0 and leave none out; each call has one id, in its first piece; arguments are texts."""
    pieces = [piece for delta in deltas(*tool_calls) for piece in delta]
    first = {}
    for at, piece in enumerate(pieces):
        first.setdefault(piece["index"], at)
        assert ("id" in piece) is (first[piece["index"]] == at)
        assert isinstance(piece["function"]["arguments"], str)
    assert list(first) == list(range(len(first)))
    assert len({pieces[at]["id"] for at in first.values()}) == len(first)


def whole(message=None, name="openai", **choice):
    """A whole answer's first choice, as the client gets it."""
    body = {"id": "c", "choices": [{"index": 0, "message": message or {"content": "hi"}, **choice}]}
    fields = row(name).decode_chat(encode_json(body), chat()).fields
    return json.loads(encode_json(fields))["choices"][0]


def test_whole_call_is_openais_when_the_server_is_loose():
    """A whole call has no index, an id, a type, and arguments that are a JSON text."""
    loose = [{"index": 0, "function": {"name": "f"}}, {"id": "b", "function": {"name": "g", "arguments": {"x": 1}}}]
    one, two = whole({"role": "assistant", "tool_calls": loose}, finish_reason="")["message"]["tool_calls"]
    assert one.pop("id").startswith("call_mana_")
    assert one == {"function": {"name": "f", "arguments": "{}"}, "type": "function"}
    assert two == {"id": "b", "function": {"name": "g", "arguments": '{"x":1}'}, "type": "function"}


@pytest.mark.parametrize(
    ("name", "word", "finish"),
    [
        ("openai", "stop", "stop"),
        ("together", "eos", "stop"),
        ("mistral", "model_length", "length"),
        ("openai", "MAX_TOKENS", "length"),
        ("openai", "guardrail_intervened", "content_filter"),
        ("openai", "tool_use", "tool_calls"),
        ("openai", "", "stop"),
        ("openai", "unheard_of", "stop"),
    ],
)
def test_finish_is_one_of_openais_words_when_the_server_has_another(name, word, finish):
    """Strict clients know five words; every other becomes one of them."""
    assert whole(name=name, finish_reason=word)["finish_reason"] == finish


@pytest.mark.parametrize(("name", "word"), [("openai", "error"), ("deepseek", "insufficient_system_resource")])
def test_finish_is_a_failure_when_the_server_says_so(name, word):
    """A word that says that the server failed is an error, plain and streamed."""
    with pytest.raises(ProviderServerError):
        whole(name=name, finish_reason=word)
    event = encode_json({"choices": [{"index": 0, "delta": {}, "finish_reason": word}]})
    _, (done, failure, _) = streamed(row(name).open_stream(chat(stream=True)), [b"data: %b\n\n" % event])
    assert (done, failure) == (False, ProviderServerError)
    assert finish_word(word, {}) in ("error", "stop")


def test_stream_is_not_finished_when_the_word_is_empty():
    """Some servers write "not yet" as an empty text: that is no finish."""
    event = encode_json({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": ""}]})
    chunks, (done, failure, _) = streamed(row("openai").open_stream(chat(stream=True)), [b"data: %b\n\n" % event])
    assert chunks[0].choices[0]["finish_reason"] is None
    assert (done, failure) == (False, ProviderProtocolError)


def test_usage_is_found_when_it_stands_in_the_choice():
    """Moonshot counts inside the last choice, with its cached tokens beside the details."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cached_tokens": 1}
    event = encode_json({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}]})
    (chunk,), _ = streamed(row("moonshot").open_stream(chat(stream=True)), [b"data: %b\n\n" % event])
    assert json.loads(bytes(chunk.usage)) == {**usage, "prompt_tokens_details": {"cached_tokens": 1}}
    assert "usage" not in chunk.choices[0]


def test_models_can_more_when_their_rows_tell_only_their_kind():
    """Together says `chat` and no more, which the published facts complete; a list of features is the whole truth."""
    rows = [
        {"id": "a", "type": "chat", "context_length": 5},
        {"id": "b", "type": "chat", "supported_features": ["tools"]},
    ]
    some, whole = row("together").decode_models(encode_json(rows))
    assert (some.capabilities, some.can_more) == (("completion",), True)
    assert (whole.capabilities, whole.can_more) == (("completion", "tools"), False)


def embed(texts, encoding="float", **fields):
    members = {"model": "m", "input": texts, **fields}
    raw = {name: msgspec.Raw(encode_json(value)) for name, value in members.items()}
    return EmbeddingsRequest(raw, "m", texts, len(texts), encoding)


def test_embeddings_become_several_calls_when_one_holds_fewer():
    """Inputs are split in their order; the answers are put together, renumbered, and their usage added."""
    provider = Compatible("x", BASE, "", Quirks(embeddings=EmbeddingQuirks(inputs_max=2)))
    request = embed(["a", "b", "c"], dimensions=4)
    calls = provider.encode_embeddings(request, "real")
    assert [json.loads(call.body)["input"] for call in calls] == [["a", "b"], ["c"]]
    assert {json.loads(call.body)["model"] for call in calls} == {"real"}
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    rows = [[{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}], [{"index": 0, "embedding": [3.0]}]]
    found = provider.decode_embeddings([encode_json({"data": data, "usage": usage}) for data in rows], request)
    said = json.loads(encode_json(found.fields))
    assert [(row["index"], row["embedding"]) for row in said["data"]] == [(0, [1.0]), (1, [2.0]), (2, [3.0])]
    assert said["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert found.usage.tokens_in == 4


def test_embeddings_are_estimated_when_no_usage_is_reported():
    """Without usage a quarter of the characters is taken, rounded up per text, and said to be an estimate."""
    found = row("openai").decode_embeddings([b'{"data":[{"embedding":[1]},{"embedding":[2]}]}'], embed(["abcde", "a"]))
    assert (found.estimated, found.usage.tokens_in) == (True, 3)
    assert found.fields["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"data":[]}', b'{"data":[{"embedding":null}]}', b'{"data":[{"index":0}]}', b"[]", b"no"],
)
def test_embeddings_are_a_protocol_error_when_they_are_none(body):
    """Too few vectors, or what is no vector, is the provider's fault."""
    for encoding in ("float", "base64"):
        with pytest.raises(ProviderProtocolError):
            row("openai").decode_embeddings([body], embed(["a"], encoding))


@pytest.mark.parametrize(("vector", "encoding"), [(["a"], "base64"), ("!", "float"), ([1e300], "base64")])
def test_embeddings_are_a_protocol_error_when_a_vector_cannot_be_turned_into_the_other_form(vector, encoding):
    """What has to be converted is looked at: words, bad base64 and numbers beyond 32 bits are refused."""
    with pytest.raises(ProviderProtocolError):
        row("openai").decode_embeddings([encode_json({"data": [{"embedding": vector}]})], embed(["a"], encoding))


def error(status, body, name="openai", **headers):
    fields = [(header.replace("_", "-").encode(), value.encode()) for header, value in headers.items()]
    return row(name).decode_error(status, fields, body if isinstance(body, bytes) else encode_json(body))


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, "context_length_exceeded"),
        (
            400,
            {"error": {"message": "This model's maximum context length is 8 tokens.", "code": 400}},
            "context_length_exceeded",
        ),
        (400, {"error": {"code": 400, "message": "x", "type": "exceed_context_size_error"}}, "context_length_exceeded"),
        (
            400,
            {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
            "model_not_found",
        ),
        (404, {"error": "Specified model not found: x"}, "model_not_found"),
        (
            400,
            {"error": {"message": "The requested model 'x' does not exist", "code": "model_not_found"}},
            "model_not_found",
        ),
        (400, {"error": {"message": "the file does not exist", "code": "no_file"}}, "no_file"),
        (400, {"error": {"message": "bad", "code": "invalid_value"}}, "invalid_value"),
    ],
)
def test_code_is_openais_when_the_server_words_it_otherwise(status, body, code):
    """Clients act upon two codes; whoever means them gets their name and status."""
    found = error(status, body)
    assert type(found) is ProviderRequestError
    assert found.code == code
    assert found.status == {"context_length_exceeded": 400, "model_not_found": 404}.get(code, status)


def test_validation_is_told_without_the_value_when_fastapi_refuses():
    """A 422's places and complaints are passed on; the value, which is the client's, is not."""
    rows = [{"loc": ["body", "messages", 1, "name"], "msg": "Extra inputs are not permitted", "input": "secret"}]
    for body in ({"detail": rows}, {"object": "error", "message": {"detail": rows}}):
        found = error(422, body)
        assert (found.status, found.message) == (422, "messages.1.name: Extra inputs are not permitted")


def test_router_passes_on_what_the_provider_behind_it_said():
    """OpenRouter's metadata holds the cause, as text or as JSON, and how long to wait."""
    metadata = {
        "provider_name": "X",
        "raw": '{"error":{"message":"overloaded","code":"slow_down"}}',
        "retry_after_seconds": 9,
    }
    found = error(
        429, {"error": {"code": 429, "message": "Provider returned error", "metadata": metadata}}, "openrouter"
    )
    assert type(found) is ProviderRateLimitError
    assert (found.message, found.retry_after_s) == ("Provider returned error: overloaded", 9.0)
    headers = {"metadata": {"headers": {"Retry-After": "4", "X-RateLimit-Reset": "1741305600000"}}}
    assert error(429, {"error": {"code": 429, "message": "m", **headers}}).retry_after_s == 4.0


def test_blocked_prompt_is_told_apart_when_a_403_has_reasons():
    """A moderated prompt is the client's; another 403 is about our key."""
    found = error(403, {"error": {"code": 403, "message": "m", "metadata": {"reasons": ["violence"]}}}, "openrouter")
    assert type(found) is ProviderBlockedError


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (501, {"error": {"code": 501, "message": "no", "type": "not_supported_error"}}, ProviderCapabilityError),
        (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, ProviderServerError),
        (402, {"error": {"message": "Insufficient Balance"}}, ProviderQuotaError),
        (429, {"error": {"message": "m", "type": "exceeded_current_quota_error"}}, ProviderQuotaError),
        (429, {"message": "Requests rate limit exceeded"}, ProviderRateLimitError),
        (200, {"object": "error", "message": "m", "type": "server_error"}, ProviderServerError),
        (200, b"<html>", ProviderProtocolError),
    ],
)
def test_error_has_its_class_when_the_server_has_its_own_shape(status, body, kind):
    """llama.cpp's numbers, Mistral's flat bodies and money that is gone are understood."""
    assert type(error(status, body)) is kind


def test_stream_fails_when_a_flat_error_is_in_it():
    """Mistral's errors have no `error` around them; one in a stream is still one."""
    event = encode_json({"object": "error", "message": "m", "type": "internal_server_error"})
    _, (done, failure, _) = streamed(row("mistral").open_stream(chat(stream=True)), [b"data: %b\n\n" % event])
    assert (done, failure) == (False, ProviderServerError)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m53.425s"}, 113.425),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 0.012),
        (
            {
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-reset-requests": "2h",
                "x-ratelimit-reset-tokens": "8.64s",
            },
            8.64,
        ),
        ({"x-ratelimit-reset": "7"}, 7.0),
        ({"x-ratelimit-reset": "1741305600000"}, None),
        ({"ratelimitbysize-reset": "23"}, 23.0),
        ({"ratelimit": '"api";r=0;t=295'}, 295.0),
        ({"ratelimit": '"api";r=999;t=295'}, None),
        ({"x-ratelimit-reset-tokens": "soon"}, None),
        ({}, None),
    ],
)
def test_wait_is_read_when_the_limits_headers_tell_it(headers, wait_s):
    """Go durations, seconds and structured fields are seconds; an instant is unread, for nothing here has a clock."""
    found = reset_after_s([(name.encode(), value.encode()) for name, value in headers.items()])
    assert found == (wait_s if wait_s is None else pytest.approx(wait_s))


def test_wait_is_the_servers_wish_when_it_has_one():
    """Retry-After goes before the limits' headers, which count on a 429 alone."""
    limits = {"x_ratelimit_reset": "7"}
    assert error(429, b"{}", retry_after_ms="1500", **limits).retry_after_s == 1.5
    assert error(429, b"{}", **limits).retry_after_s == 7.0
    assert error(503, b"{}", **limits).retry_after_s is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "error",
                        "message",
                        "code",
                        "type",
                        "detail",
                        "metadata",
                        "raw",
                        "loc",
                        "headers",
                        "retry_after_seconds",
                        "Retry-After",
                        "param",
                        "status_code",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    ),
    st.sampled_from([200, 400, 404, 429, 500]),
)
@example({"detail": [{"loc": True, "msg": "no"}]}, 400)
def test_error_is_classified_when_the_body_is_anything(body, status):
    """No JSON makes the classification fail."""
    assert isinstance(error(status, body).message, str)
