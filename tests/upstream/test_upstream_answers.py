import asyncio

import pytest

from mana_llm.schema.errors import ProviderProtocolError
from tests.upstream.peer import LIMITS, OK, active, fetch, idle, talking, turns

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: t\r\n\r\n"
)
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-Empty:\r\n\r\nabcdefg"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + LENGTH


class Slicer:
    """Writes an answer in two segments: the second when the client's loop has surely seen the first."""

    def __init__(self, answer, at):
        self.parts = answer[:at], answer[at:]

    def __call__(self, connection, _):
        connection.write(self.parts[0])
        loop = asyncio.get_running_loop()
        loop.call_later(0.001, connection.write, self.parts[1])


@pytest.mark.parametrize("answer", [CHUNKED, LENGTH, INTERIM], ids=["chunked", "length", "interim"])
def test_body_is_the_same_when_split_at_every_byte(run, answer):
    """An answer means the same wherever the network cuts it, and its connection is used again."""

    async def main():
        async with talking(None) as (peer, upstream):
            for at in range(1, len(answer)):
                peer.answer = Slicer(answer, at)
                response, body = await fetch(upstream, peer.call())
                assert (response.status, body) == (200, b"abcdefg")
                assert b"link" not in dict(response.headers)
                assert b"t" not in dict(response.headers)
            assert len(peer.connections) == 1
            assert idle(upstream) == 1

    run(main)


@pytest.mark.parametrize("answer", [CHUNKED, LENGTH, INTERIM], ids=["chunked", "length", "interim"])
def test_cut_is_a_protocol_error_when_at_any_byte(run, answer):
    """An answer that ends early, at whatever byte, is never taken for a whole one (R4, by FIN)."""

    async def main():
        async with talking(None) as (peer, upstream):
            for at in range(len(answer)):

                def cut(connection, _, at=at):
                    connection.write(answer[:at])
                    connection.close()

                peer.answer = cut
                with pytest.raises(ProviderProtocolError, match="closed the connection"):
                    await fetch(upstream, peer.call())
                assert active(upstream) == 0

    run(main)


def test_reset_is_a_protocol_error_when_in_the_body(run):
    """A reset in the middle of a body fails the read, even of a body that would end with the connection (R4)."""

    async def main():
        def reset(connection, _):
            connection.write(b"HTTP/1.1 200 OK\r\n\r\nabc")

        async with talking(reset) as (peer, upstream):
            response = await upstream.send(peer.call(), LIMITS)
            assert await response.read() == b"abc"
            import socket
            import struct

            raw = peer.connections[0].transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.connections[0].abort()
            with pytest.raises(ProviderProtocolError):
                await response.read()

    run(main)


def test_body_ends_with_the_connection_when_it_has_no_length(run):
    """A body without length or chunks is complete when the peer closes, and the connection is not kept."""

    async def main():
        def answer(connection, _):
            connection.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
            connection.close()

        async with talking(answer) as (peer, upstream):
            _, body = await fetch(upstream, peer.call())
            assert body == b"abc"
            assert idle(upstream) == 0

    run(main)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_answer_has_no_body_when_its_status_has_none(run, status, length):
    """204 and 304 end with their head, whatever their headers claim; a claim costs the connection."""

    async def main():
        async with talking(b"HTTP/1.1 %d No\r\n%s\r\n" % (status, length)) as (peer, upstream):
            response, body = await fetch(upstream, peer.call())
            assert (response.status, body) == (status, b"")
            assert idle(upstream) == (0 if length else 1)

    run(main)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "HTTP"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "101"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK, "interim"),
        (b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc" + OK, "100"),
        (b"HTTP/1.1 200 OK\r\n" + b"".join(b"A%d: b\r\n" % number for number in range(257)) + b"\r\n", "256 lines"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 65_536 + b"\r\nContent-Length: 0\r\n\r\n", "65536 bytes"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 80_000, "65536 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer coding"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok", "encoded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", "HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", "HTTP"),
    ],
)
def test_head_is_a_protocol_error_when_it_cannot_be_used(run, answer, words):
    """What is not a usable HTTP/1.1 head is refused by name, and the connection goes (R55: 1xx floods, CRLF)."""

    async def main():
        async with talking(answer) as (peer, upstream):
            with pytest.raises(ProviderProtocolError, match=words):
                await fetch(upstream, peer.call())
            await turns()
            assert active(upstream) == idle(upstream) == 0

    run(main)


def test_eight_interim_answers_are_skipped_when_the_ninth_is_final(run):
    """Up to eight 1xx answers are borne."""

    async def main():
        async with talking(b"HTTP/1.1 100 Continue\r\n\r\n" * 8 + OK) as (peer, upstream):
            assert (await fetch(upstream, peer.call()))[1] == b"ok"

    run(main)


@pytest.mark.parametrize(
    "flood",
    [b"3\r\nabc\r\n0\r\n" + b"T: t\r\n" * 120_000, b"3;" + b"x" * 70_000],
    ids=["trailers", "extension"],
)
def test_body_is_a_protocol_error_when_it_is_all_trailers(run, flood):
    """What is dropped is bounded too: trailers and chunk extensions beyond 64 KiB fail (R11)."""

    async def main():
        async with talking(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + flood) as (
            peer,
            upstream,
        ):
            with pytest.raises(ProviderProtocolError, match="trailers"):
                await fetch(upstream, peer.call())

    run(main)


@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", b"H", b"\0"])
def test_connection_dies_when_bytes_follow_the_answer_in_its_segment(run, extra):
    """An answer with more behind it is delivered, and its connection never carries another."""

    async def main():
        async with talking(OK + extra) as (peer, upstream):
            assert (await fetch(upstream, peer.call()))[1] == b"ok"
            assert idle(upstream) == 0
            assert (await fetch(upstream, peer.call()))[1] == b"ok"
            assert len(peer.connections) == 2

    run(main)


@pytest.mark.parametrize("extra", [b"\r\n", b"x", OK])
def test_idle_connection_dies_when_a_byte_comes(run, extra):
    """A byte that nobody asked for kills an idle connection at once, so that answers never cross."""

    async def main():
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call())
            assert idle(upstream) == 1
            peer.connections[0].write(extra)
            await peer.connections[0].gone
            assert idle(upstream) == 0

    run(main)


def test_connection_is_not_kept_when_the_peer_says_close(run):
    """`Connection: close` and HTTP/1.0 end the connection with the answer."""

    async def main():
        for head in (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"):
            async with talking(head + b"Content-Length: 2\r\n\r\nok") as (peer, upstream):
                assert (await fetch(upstream, peer.call()))[1] == b"ok"
                assert idle(upstream) == 0

    run(main)
