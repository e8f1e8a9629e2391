"""Where the network cuts an upstream's stream changes no byte of what the client gets."""

import pytest
import uvloop

from mana_llm.dialects.openai import OpenAI
from mana_llm.schema.chat import ChatRequest, Identity
from mana_llm.schema.errors import ProviderError
from tests.caller import chat
from tests.chat_recordings import CLOUDS, asked, body_of, cloud, is_any_stream, provider_of
from tests.puppet import STREAM_HEAD, puppet, saying
from tests.recordings import ABSENT, ROOT, recordings
from tests.world import gateway

FIXTURES = 200
PREFIX_BYTES = 500
ONE = (
    'data: {"id":"1","created":1,"choices":[{"index":0,"delta":{"role":"assistant","content":"hä 😀"}}]}\n\n'
    'data: {"id":"1","created":1,"choices":[{"index":0,"delta":{"content":"\\ud83d\\ude00"},"finish_reason":"stop"}]}'
    '\n\ndata: {"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    "data: [DONE]\n\n"
).encode()
BY_HAND = {
    "lf": ONE,
    "crlf": ONE.replace(b"\n", b"\r\n"),
    "cr": ONE.replace(b"\n", b"\r"),
    "byte order mark": b"\xef\xbb\xbf" + ONE,
    "byte order mark and crlf": b"\xef\xbb\xbf" + ONE.replace(b"\n", b"\r\n"),
    "comments": b": hello\n\n:\n\n" + ONE.replace(b"\n\n", b"\n\n: \n\n"),
    "comment inside an event": ONE.replace(b"data: ", b": between\ndata: "),
    "names, ids and retry": ONE.replace(b"data: ", b"event: message\nid: 7\nretry: 5\ndata: "),
    "no space": ONE.replace(b"data: ", b"data:"),
    "data in lines": ONE.replace(b',"choices"', b'\ndata: ,"choices"'),
    "no last blank line": ONE.rstrip(),
    "no last blank line, crlf": ONE.replace(b"\n", b"\r\n").rstrip(),
    "cut inside a character": ONE[: ONE.index("😀".encode()) + 2],
    "not UTF-8": ONE.replace("😀".encode(), b"\xf0\x9f"),
    "not JSON": ONE.replace(b'"index":0', b'"index":', 1),
    "an error": ONE.replace(b"data: [DONE]", b'event: error\ndata: {"error":{"message":"no"}}'),
}


def relayed(provider, pieces) -> bytes:
    """What the client gets, the way the gateway reads, relays and ends."""
    decoder = provider.open_stream(asked(stream=True))
    encoder = OpenAI().open_stream(ChatRequest({}, "any", stream=True, include_usage=True), "p/m", Identity("ours", 9))
    out = b""
    for piece in (*pieces, None):
        chunks = decoder.end() if piece is None else decoder.feed(piece)
        out += encoder.encode(chunks)
        if decoder.done:
            return out + encoder.end()
        if decoder.failure:
            assert isinstance(decoder.failure, ProviderError)
            return out + encoder.fail(decoder.failure)
    raise AssertionError("a decoder ends in done or in a failure")


def assert_same_everywhere(provider, body: bytes) -> None:
    """In two at every byte, in single bytes, and in threes."""
    whole = relayed(provider, [body])
    assert whole.endswith(b"data: [DONE]\n\n")
    for at in range(1, len(body)):
        assert relayed(provider, [body[:at], body[at:]]) == whole, at
    for size in (1, 3):
        assert relayed(provider, [body[at : at + size] for at in range(0, len(body), size)]) == whole, size


@pytest.mark.parametrize("name", BY_HAND)
def test_client_bytes_are_the_same_when_a_stream_is_split_anywhere(name):
    """Line ends, characters of several bytes, comments and errors may be split at any byte."""
    assert_same_everywhere(cloud("openai-chat"), BY_HAND[name])


def test_wellformed_variants_say_the_same_when_they_are_relayed():
    """Other line ends, names, comments and spaces around the same events give the client the same bytes."""
    alike = [name for name in BY_HAND if not name.startswith(("cut", "not", "an error"))]
    assert len({relayed(cloud("openai-chat"), [BY_HAND[name]]) for name in alike}) == 1


def fixtures():
    """Beginnings and endings of every provider's recorded streams, until there are enough."""
    streams = [
        (folder, body_of(folder, recording))
        for folder in (*CLOUDS, "google", "ollama-native")
        for recording in recordings(folder)
        if is_any_stream(folder, recording)
    ]
    beginnings = {(folder, body[:PREFIX_BYTES]) for folder, body in streams}
    endings = {(folder, body[-PREFIX_BYTES:]) for folder, body in streams}
    return sorted(beginnings | endings)


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_client_bytes_are_the_same_when_recorded_streams_are_split_at_every_byte():
    """R12 (200 of 200): beginnings and ends of recorded streams, split at every byte, give the client equal bytes."""
    found = fixtures()
    assert len(found) >= FIXTURES - len(BY_HAND)
    for folder, body in found[:: len(found) // (FIXTURES - len(BY_HAND))]:
        assert_same_everywhere(provider_of(folder), body)


@pytest.mark.parametrize("name", ["crlf", "comments", "data in lines", "cut inside a character", "no last blank line"])
def test_client_bytes_are_the_same_when_sockets_split_a_stream(name):
    """Sent byte by byte over a socket, or whole: the client's body is the same."""

    async def main() -> None:
        body = BY_HAND[name]
        bodies = set()
        for pieces in ([STREAM_HEAD + body], [STREAM_HEAD, *(body[at : at + 1] for at in range(len(body)))]):
            async with puppet(saying(pieces)) as url, gateway(openai_base_url=url) as running:
                answer = await chat(running.port, "openai/any", stream=True, stream_options={"include_usage": True})
                bodies.add(answer.body)
        assert len(bodies) == 1

    uvloop.run(main())
