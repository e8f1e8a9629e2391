"""OpenAI-compatible servers that answer anything at all: a typed failure or an answer, never another exception."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.dialects.openai import OpenAI
from mana_llm.schema.chat import ChatRequest, Identity
from mana_llm.schema.errors import ProviderError
from mana_llm.schema.wire import encode_json
from tests.chat_recordings import CLOUDS, asked, cloud

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["error", "stop"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def object_with(**members):
    """Objects in which each of these members may be missing, right, or anything."""
    return st.fixed_dictionaries({}, optional={name: ANYTHING | right for name, right in members.items()})


CALL = object_with(index=st.integers(0, 2), id=st.text(), function=object_with(name=st.text(), arguments=st.text()))
TURN = object_with(role=st.just("assistant"), content=st.text(), tool_calls=st.lists(CALL, max_size=2))
ERROR = object_with(message=st.text(), code=st.integers() | st.text(), type=st.text(), param=st.text())
CHOICE = object_with(
    index=st.integers(0, 3),
    delta=TURN,
    message=TURN,
    finish_reason=st.sampled_from(["stop", "error", "eos", "other"]),
    error=ERROR,
)
USAGE = object_with(prompt_tokens=st.integers(), completion_tokens=st.integers(), total_tokens=st.integers())
ANSWER = object_with(
    id=st.text(),
    created=st.integers(),
    model=st.text(),
    choices=st.lists(CHOICE, max_size=2),
    usage=USAGE,
    error=ERROR | st.none(),
    service_tier=st.sampled_from(["default", "odd"]),
)
BODIES = (ANSWER | ANYTHING).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20)
FOLDERS = st.sampled_from([*CLOUDS])


@settings(max_examples=300)
@given(FOLDERS, BODIES)
def test_whole_answer_is_an_answer_or_a_failure_when_it_is_anything(folder, body):
    """Whatever JSON or bytes a server answers: a ProviderError, or something that can be written for a client."""
    try:
        completion = cloud(folder).decode_chat(body, asked())
    except ProviderError:
        return
    assert completion.usage is None or min(completion.usage.tokens_in, completion.usage.tokens_out) >= 0
    assert json.loads(OpenAI().encode_chat(completion, "p/m", Identity("id", 1)))["model"] == "p/m"


@settings(max_examples=300)
@given(FOLDERS, st.lists(BODIES, max_size=4), st.booleans())
def test_stream_is_an_answer_or_a_failure_when_it_is_anything(folder, bodies, include_usage):
    """Whatever events a server sends: they end in `done` or `failure`, and all that comes out can be written."""
    decoder = cloud(folder).open_stream(asked(stream=True))
    encoder = OpenAI().open_stream(ChatRequest({}, "m", True, include_usage), "p/m", Identity("id", 1))
    out = b""
    for body in bodies:
        out += encoder.encode(decoder.feed(b"data: %b\n\n" % body))
        if decoder.done or decoder.failure:
            break
    else:
        out += encoder.encode(decoder.end())
    assert decoder.done or isinstance(decoder.failure, ProviderError)
    out += encoder.end() if decoder.done else encoder.fail(decoder.failure)
    *events, end = out.removesuffix(b"\n\n").split(b"\n\n")
    assert end == b"data: [DONE]"
    for event in events:
        assert isinstance(json.loads(event.removeprefix(b"data: ")), dict)


@settings(max_examples=300)
@given(FOLDERS, st.sampled_from([200, 300, 400, 401, 402, 404, 418, 429, 500, 599]), BODIES | ERROR.map(json.dumps))
def test_error_has_a_class_when_its_body_is_anything(folder, status, body):
    """Whatever an error's body is, it is classified, and its status is one that a client may see."""
    data = body.encode() if isinstance(body, str) else body
    error = cloud(folder).decode_error(status, [(b"content-type", b"x"), (b"retry-after", b"soon")], data)
    assert isinstance(error, ProviderError)
    assert 400 <= error.status <= 599
    assert json.loads(encode_json(error.body()))


@pytest.mark.parametrize("usage", [b'{"prompt_tokens":1.5}', b'"many"', b"[]", b'{"prompt_tokens":-5}', b"1e400"])
def test_answer_stands_when_its_usage_is_nonsense(usage):
    """Odd usage costs the accounts, never the answer: whole or streamed, it counts as not told or as nothing."""
    body = b'{"choices":[{"index":0,"message":{"content":"a"}}],"usage":%b}' % usage
    completion = cloud("openai-chat").decode_chat(body, asked())
    assert completion.usage is None or completion.usage.tokens_in == 0
    assert completion.fields["choices"]


@pytest.mark.parametrize(
    "members",
    [
        b'"choices":null',
        b'"choices":{}',
        b'"choices":[null]',
        b'"choices":[1]',
        b'"choices":[{"index":0,"finish_reason":"error"}]',
        b'"choices":[{"index":0,"finish_reason":"error","error":"\\ud800"}]',
        b'"choices":[],"error":{"message":"\\ud800"}',
        b'"choices":[],"error":%b' % (b"[" * 2000 + b"]" * 2000),
        b'"choices":%b' % (b"[" * 2000 + b"]" * 2000),
        b'"choices":[],"usage":NaN',
        b'"choices":[],"x":"\xff"',
    ],
)
def test_failure_is_typed_when_a_member_is_of_another_shape(members):
    """Choices that are none, depth, NaN, broken text: a ProviderError for each cloud."""
    for folder in CLOUDS:
        with pytest.raises(ProviderError):
            cloud(folder).decode_chat(b"{%b}" % members, asked())


@pytest.mark.parametrize("word", [b"5", b'["stop"]', b"{}"])
def test_failure_is_typed_when_a_finish_is_no_word(word):
    """Where finish words are translated, one that is no word is a ProviderError."""
    with pytest.raises(ProviderError):
        cloud("together").decode_chat(b'{"choices":[{"index":0,"finish_reason":%b}]}' % word, asked())
