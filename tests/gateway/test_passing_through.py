"""What both ends understand passes through untouched: numbers, unknown fields, order."""

import json

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.dialects.openai import OpenAI
from mana_llm.schema.errors import GatewayError
from tests.caller import call, counted
from tests.chat_recordings import CLOUDS, cloud, provider_of
from tests.puppet import STREAM_HEAD, answer, puppet, saying
from tests.world import gateway

MESSAGES = b'"messages":[{"role":"user","content":"h\\u00e9 \\ud83d\\ude00","odd":1.00}]'
ODD = (
    b'"temperature":1.00,"huge":1e400,"seed":9007199254740993,"tiny":-0.0,"big":123456789012345678901234567890,'
    b'"nested":{"b":[1.10,{"a":null}],"a":1E5},"text":"\\u0041\\/","spaced" : [ 1 ,\n2 ],"":true,"\xc3\xa9":"\xc3\xa9"'
)
VALUES = st.recursive(
    st.sampled_from(["1.00", "1e400", "9007199254740993", "-0.0", "null", "true", '"\\u0041"', '"é😀"', "[ ]", "{}"])
    | st.integers().map(str)
    | st.text(max_size=8).map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.text(max_size=5).map(json.dumps), inner, max_size=3).map(
            lambda members: "{" + ",".join(f"{name} : {value}" for name, value in members.items()) + "}"
        )
    ),
    max_leaves=6,
)
WHOLE = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}]}'
RESERVED = {"model", "messages", "stream", "stream_options"}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name not in RESERVED)


def sent(stream: bool, *, options: bytes = b"") -> bytes:
    """The request that a client sends."""
    streamed = b',"stream":true%b' % options if stream else b""
    return b'{"model":"openai/gpt","x":0,%b,%b%b}' % (ODD, MESSAGES, streamed)


@pytest.mark.parametrize(
    ("stream", "options", "expected"),
    [
        (False, b"", b""),
        (True, b"", b',"stream_options":{"include_usage":true}'),
        (True, b',"stream_options":{"include_usage":false,"x":1.0}', None),
    ],
)
def test_upstream_gets_every_byte_when_it_speaks_openai(stream, options, expected):
    """Unknown fields, odd numbers and escapes reach an OpenAI-compatible upstream byte for byte, in order."""

    async def main() -> None:
        requests = []
        reply = STREAM_HEAD + b"data: [DONE]\n\n" if stream else answer(WHOLE)
        async with puppet(saying([reply], requests)) as url, gateway(openai_base_url=url) as running:
            body = sent(stream, options=options)
            assert (await call(running.port, "POST /v1/chat/completions", body)).status == 200
            want = body.replace(b"openai/gpt", b"gpt").replace(b'"spaced" : ', b'"spaced":')
            if expected is None:
                want = want.replace(b'"include_usage":false', b'"include_usage":true')
            elif expected:
                want = want[:-1] + expected + b"}"
            ((_, got),) = requests
            assert got == want

    uvloop.run(main())


def test_client_gets_every_member_when_the_upstream_adds_its_own():
    """Unknown members and odd numbers of a whole answer reach the client byte for byte."""
    members = b'%b,"choices":[{"index":0,"message":{"role":"assistant","content":"\\u0041","y":1.0},"z":1e400}]' % ODD

    async def main() -> None:
        body = b'{"id":"a","object":"chat.completion","created":1.5e9,"model":"m",%b}' % members
        async with puppet(saying([answer(body)])) as url, gateway(openai_base_url=url) as running:
            got = await call(running.port, "POST /v1/chat/completions", sent(stream=False))
            assert got.body == body.replace(b'"model":"m"', b'"model":"openai/gpt"').replace(
                b'"spaced" : ', b'"spaced":'
            )

    uvloop.run(main())


def test_client_gets_every_member_when_the_upstream_streams_its_own():
    """Unknown members of chunks, choices and deltas reach the client with their values byte for byte."""

    async def main() -> None:
        choice = b'{"index":0,"delta":{"content":"a","y":1.00},"z":1e400}'
        body = b'data: {"id":"a","created":1.5e9,%b,"choices":[%b]}\n\ndata: [DONE]\n\n' % (
            ODD.replace(b"\n", b" "),
            choice,
        )
        async with puppet(saying([STREAM_HEAD + body])) as url, gateway(openai_base_url=url) as running:
            got = await call(running.port, "POST /v1/chat/completions", sent(stream=True))
            for member in (b'"y":1.00', b'"z":1e400', b'"created":1.5e9', b'"huge":1e400', b'"seed":9007199254740993'):
                assert member in got.body
            assert ODD.replace(b"\n", b" ").replace(b'"spaced" : ', b'"spaced":') in got.body

    uvloop.run(main())


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.booleans(), st.sampled_from([*CLOUDS]))
def test_two_attempts_send_equal_bytes_when_the_request_is_the_same(members, stream, folder):
    """The inbound request is never changed: each attempt's body is the client's, and the second is the first's."""
    extra = "".join(f",{json.dumps(name)}:{value}" for name, value in members.items())
    body = b'{"model":"a/b",%b%b%b}' % (MESSAGES, b',"stream":true' if stream else b"", extra.encode())
    request = OpenAI().decode_chat(body)
    before = [(name, bytes(raw)) for name, raw in request.fields.items()]
    provider = cloud(folder)
    first = provider.encode_chat(request, "b").body
    other = provider.encode_chat(request, "other/model").body
    assert provider.encode_chat(request, "b").body == first
    assert other.replace(b'"model":"other/model"', b'"model":"b"', 1) == first
    assert [(name, bytes(raw)) for name, raw in request.fields.items()] == before
    for name, raw in before:
        if name != "model":
            assert b":%b" % raw in first


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.sampled_from(["ollama-native", "google"]))
def test_two_attempts_send_equal_bytes_when_they_are_translated(members, folder):
    """A translator reads the request and leaves it as it was: the next attempt sees what the first saw."""
    extra = "".join(f",{json.dumps(name)}:{value}" for name, value in members.items())
    request = OpenAI().decode_chat(b'{"model":"a/b",%b%b}' % (MESSAGES, extra.encode()))
    before = [(name, bytes(raw)) for name, raw in request.fields.items()]
    try:
        first = provider_of(folder).encode_chat(request, "b")
    except GatewayError as error:
        with pytest.raises(type(error)):
            provider_of(folder).encode_chat(request, "b")
    else:
        assert provider_of(folder).encode_chat(request, "b").body == first.body
    assert [(name, bytes(raw)) for name, raw in request.fields.items()] == before


def test_second_entry_gets_what_the_first_got_when_the_walk_goes_on(tmp_path):
    """A fallback's upstream gets the client's bytes as the first one did, with its own model's name."""

    async def main() -> None:
        first, second = [], []
        refusal = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        aliases = "aliases: {mana/two: {chain: [openai/one, groq/two]}}\ndefault: mana/two\n"
        async with (
            puppet(saying([refusal], first)) as one,
            puppet(saying([answer(WHOLE)], second)) as two,
            gateway(aliases, tmp_path, openai_base_url=one, groq_base_url=two) as running,
        ):
            body = sent(stream=False).replace(b"openai/gpt", b"mana/two")
            got = await call(running.port, "POST /v1/chat/completions", body)
            assert got.headers["x-mana-llm-resolved"] == "groq/two"
            assert first[0][1].replace(b'"model":"one"', b'"model":"two"') == second[0][1]
            assert counted(running.application.metrics.text(), "mana_llm_fallback_total") == 1

    uvloop.run(main())
