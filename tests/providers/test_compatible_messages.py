"""What a row takes off a request's messages, what it takes back, and that all else stays as it came."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.providers.base_url import base_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.custom import custom_providers
from mana_llm.providers.table import ROWS
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import ProviderCapabilityError, ProviderError
from mana_llm.schema.wire import encode_json
from tests.recordings import streamed

BASE = base_of("https://cloud.example/v1")
SIGNED = {"google": {"thought_signature": "c2ln"}}
EXTRA = ["messages.extra_content", "messages.tool_calls.extra_content"]
TEXTS_ONLY = {"mistral", "together", "perplexity", "nvidia", "deepinfra"}
WITH_EMBEDDINGS = [row.name for row in ROWS if row.quirks.embeddings]


def row(name):
    """The provider of a row."""
    return Compatible(name, BASE, "key", next(row.quirks for row in ROWS if row.name == name))


def custom(quirks=""):
    """A server of providers.yaml."""
    text = f"providers: {{lab: {{base_url: 'http://a/v1'{quirks}}}}}"
    (found,) = custom_providers(text, "providers.yaml", ())
    return Compatible("lab", BASE, "", found.quirks)


def sent(provider, messages, **fields):
    """The messages that go out, the whole body, and what it ignores."""
    raw = {name: msgspec.Raw(encode_json(value)) for name, value in {"messages": messages, **fields}.items()}
    call = provider.encode_chat(ChatRequest(raw, "m", stream=False, include_usage=False), "m")
    body = json.loads(call.body)
    return body["messages"], body, sorted(call.ignored)


def called(call_id="random123", **members):
    """An assistant's turn with one call."""
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return {"role": "assistant", "content": None, "tool_calls": [call], **members}


@pytest.mark.parametrize("name", [row.name for row in ROWS])
def test_signature_stays_here_when_the_answer_was_googles_and_the_next_is_a_clouds(name):
    """`extra_content` of messages and calls goes to no cloud, and is named; the calls themselves stay."""
    signed = called(extra_content=SIGNED)
    signed["tool_calls"][0]["extra_content"] = SIGNED
    (message,), _, ignored = sent(row(name), [signed])
    assert message == called()
    assert ignored == EXTRA


def test_signature_goes_on_when_the_server_is_the_installations_own():
    """A server of providers.yaml may stand before Google's models; one that is strict says so by a quirk."""
    signed = called(extra_content=SIGNED)
    assert sent(custom(), [signed])[0] == [signed]
    assert sent(custom(", quirks: [max-tokens]"), [signed])[0] == [signed]
    assert sent(custom(", quirks: [refuses-extra-content]"), [signed])[0] == [called()]


@pytest.mark.parametrize(
    "text",
    [
        b'[ {"role":"user",  "content":"\\"extra_content\\": \\"name\\": 1e400"} ]',
        b'[ {"role":"user","content":"a"},  {"role":"assistant","tool_calls":[{"id":"x"}]} ]',
        b'[ {"role":"assistant","tool_calls":"extra_content\\":", "extra_content" :1 } , 7 ]',
        b'[ {"role":"assistant","tool_calls":[ 7 ], "x":{"extra_content" :1} } ]',
    ],
)
def test_messages_stay_as_bytes_when_nothing_in_them_is_refused(text):
    """A name in a text, calls that nobody knows and what are no messages: not a byte changes."""
    request = ChatRequest({"messages": msgspec.Raw(text)}, "m", stream=False, include_usage=False)
    for name in ("openai", "deepseek"):
        assert text in row(name).encode_chat(request, "m").body


@given(
    before=st.integers(0, 3 * 64 * 1024),
    after=st.sampled_from((0, 7, 70_000)),
    filling=st.sampled_from(("A", "_", '"', "A" * 40 + '"')),
)
@settings(max_examples=150, deadline=None)
def test_name_is_found_when_it_stands_anywhere_in_long_messages(before, after, filling):
    """A name counts wherever it stands, in the gap of two looked-at pieces too; and nothing else is touched."""
    text = (filling * (before // len(filling) + 1))[:before]
    long = [{"role": "user", "content": text}, called(extra_content=SIGNED), {"role": "user", "content": "A" * after}]
    assert sent(row("openai"), long)[0] == [long[0], called(), long[2]]
    named = [{**long[0], "name": "ann"}, long[2]]
    assert sent(row("groq"), named)[0] == [long[0], long[2]]


def test_groq_gets_no_name_and_no_logprobs_when_a_client_gives_them():
    """It answers 400 to both; without them the request means the same, and they are named."""
    messages = [{"role": "user", "name": "ann", "content": "Hi"}, called()]
    given = {"logprobs": True, "top_logprobs": 2, "logit_bias": {"5": -100}, "n": 2}
    written, body, ignored = sent(row("groq"), messages, **given)
    assert written == [{"role": "user", "content": "Hi"}, called()]
    assert body == {"messages": written, "model": "m", "n": 2}
    assert ignored == ["logit_bias", "logprobs", "messages.name", "top_logprobs"]


@pytest.mark.parametrize("name", WITH_EMBEDDINGS)
def test_tokens_are_refused_when_the_server_embeds_texts_only(name):
    """Nothing is sent, and the client's own switch is named; other servers get the tokens as they came."""
    request = EmbeddingsRequest({"input": msgspec.Raw(b"[[1,2],[3]]")}, "m", None, 2)
    if name in TEXTS_ONLY:
        with pytest.raises(ProviderCapabilityError, match="check_embedding_ctx_length=False") as caught:
            row(name).encode_embeddings(request, "m")
        assert caught.value.param == "input"
    else:
        (call,) = row(name).encode_embeddings(request, "m")
        assert json.loads(call.body)["input"] == [[1, 2], [3]]


def test_tokens_are_refused_when_an_own_server_says_that_it_embeds_texts():
    """A server of providers.yaml, such as LM Studio, has a word for it."""
    request = EmbeddingsRequest({"input": msgspec.Raw(b"[[1,2],[3]]")}, "m", None, 2)
    with pytest.raises(ProviderCapabilityError, match="check_embedding_ctx_length=False"):
        custom(", quirks: [embeds-texts]").encode_embeddings(request, "m")


@pytest.mark.parametrize("error", [None, "", {}, [], False])
def test_error_is_none_when_it_says_nothing(error):
    """An empty `error` beside a good answer is no failure, plain or streamed, and clients never see it as one."""
    asked = ChatRequest({}, "m", stream=False, include_usage=False)
    body = {"id": "c", "error": error, "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    assert not bytes(row("openai").decode_chat(encode_json(body), asked).fields.get("error", b"")).strip(b"null")
    event = encode_json({**body, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]})
    (chunk,), (done, *_) = streamed(row("openai").open_stream(asked), [b"data: %b\n\n" % event])
    assert done
    assert not bytes(chunk.fields.get("error", b"")).strip(b"null")


@pytest.mark.parametrize("error", ["no", {"message": ""}, {"code": 5}, 1, True])
def test_error_is_a_failure_when_it_says_anything(error):
    """Whatever is not empty is an error, even one without words."""
    asked = ChatRequest({}, "m", stream=False, include_usage=False)
    with pytest.raises(ProviderError):
        row("openai").decode_chat(encode_json({"error": error, "choices": []}), asked)
