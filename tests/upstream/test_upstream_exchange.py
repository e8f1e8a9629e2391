import asyncio

import pytest

from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.wire import Call, Endpoint, Limits, Origin
from mana_llm.upstream.client import Upstream
from tests.upstream.peer import LIMITS, OK, active, fetch, idle, serving, talking, turns, until

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: t\r\n\r\n"
)


def test_redirect_is_an_answer_when_it_comes(run):
    """A 3xx is handed over and never followed (R55)."""

    async def main():
        answer = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
        async with talking(answer) as (peer, upstream):
            response, body = await fetch(upstream, peer.call())
            assert (response.status, body, len(peer.requests)) == (302, b"", 1)

    run(main)


def test_request_bytes_are_whole_when_body_is_small_large_or_none(run):
    """What is sent is exactly one request, with our headers and the endpoint's."""

    async def main():
        async with talking(OK) as (peer, upstream):
            for body in (b"", b"{}", b"x" * 65_536, b"y" * 2_000_000):
                await fetch(upstream, peer.call(body, headers=b"Authorization: Bearer k\r\n"))
                head, _, sent = peer.requests[-1].partition(b"\r\n\r\n")
                assert sent == body
                assert head.split(b"\r\n") == [
                    b"POST /v1/x HTTP/1.1",
                    b"Host: 127.0.0.1:%d" % peer.port,
                    b"Accept-Encoding: identity",
                    b"Authorization: Bearer k",
                    b"Content-Length: %d" % len(body),
                ]
            await fetch(upstream, peer.call(b"", "GET", "/m"))
            assert b"Content-Length" not in peer.requests[-1]
            assert len(peer.connections) == 1

    run(main)


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint(Origin("http", "h", 80), "GET", "/a b"),
        Endpoint(Origin("http", "h", 80), "GET", "/a\r\nX: y"),
        Endpoint(Origin("http", "h", 80), "GET", "/é"),
        Endpoint(Origin("http", "h", 80), "G T", "/"),
        Endpoint(Origin("http", "h\r\nX: y", 80), "GET", "/"),
    ],
)
def test_call_is_refused_when_it_could_become_two(run, endpoint):
    """A method, target or host that would end its line is refused before a connection is asked for."""

    async def main():
        upstream = Upstream()
        with pytest.raises(ValueError, match="visible ASCII"):
            await upstream.send(Call(endpoint), LIMITS)
        assert active(upstream) == 0

    run(main)


def test_read_all_fails_when_the_body_is_too_large(run):
    """`read_all` gives up beyond its cap, with one segment or many, and cuts what still comes."""

    async def main():
        for answer in (OK, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3_000_000):
            async with talking(answer) as (peer, upstream):
                with pytest.raises(ProviderProtocolError, match="more than 1 bytes"):
                    await fetch(upstream, peer.call(), bytes_max=1)

    run(main)


def test_read_hands_over_all_that_came_when_called_late(run):
    """One read is everything since the last; b"" again and again at the end."""

    async def main():
        async with talking(CHUNKED) as (peer, upstream):
            response = await upstream.send(peer.call(), LIMITS)
            assert await response.read() == b"abcdefg"
            assert await response.read() == await response.read() == b""
            response.close()
            response.close()
            assert idle(upstream) == 1

    run(main)


def test_reading_is_paused_when_nobody_reads(run):
    """An upstream that sends faster than we read is made to wait at about 256 KiB, and nothing is lost (R11)."""

    async def main():
        size = 20_000_000

        def answer(connection, _):
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

        async with talking(answer) as (peer, upstream):
            response = await upstream.send(peer.call(), LIMITS)
            await until(lambda: response._paused)
            await turns(50)
            assert response.size < 262_144 * 3
            assert peer.connections[0].transport.get_write_buffer_size() > 0
            total = 0
            while data := await response.read():
                total += len(data)
            assert total == size
            assert idle(upstream) == 1

    run(main)


def test_finish_keeps_the_connection_when_the_end_comes(run):
    """After `finish` and `close` the end may still come, and the connection serves again."""

    async def main():
        def answer(connection, _):
            connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

        async with talking(answer) as (peer, upstream):
            response = await upstream.send(peer.call(), LIMITS)
            assert await response.read() == b"abc"
            response.finish()
            response.close()
            assert active(upstream) == 1
            peer.connections[0].write(b"1\r\nx\r\n0\r\n\r\n")
            await until(lambda: not active(upstream))
            assert idle(upstream) == 1

    run(main)


def test_finish_cuts_the_connection_when_the_end_does_not_come(run, monkeypatch):
    """A finished answer that goes on and on loses its connection."""

    async def main():
        monkeypatch.setattr("mana_llm.upstream.response._FINISH_S", 0.02)
        async with talking(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc") as (peer, upstream):
            response = await upstream.send(peer.call(), Limits(5, None, 60, 600))
            response.finish()
            await peer.connections[0].gone
            assert idle(upstream) == 0

    run(main)


def test_close_cuts_the_connection_when_the_body_is_not_complete(run):
    """The upstream learns at once that nobody listens; a thousand answers dropped strand nothing (R7: 1,000)."""

    async def main():
        async with talking(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc") as (peer, upstream):
            for _ in range(1000):
                response = await upstream.send(peer.call(), LIMITS)
                response.close()
                response.close()
                assert active(upstream) == idle(upstream) == 0
            await asyncio.gather(*(connection.gone for connection in peer.connections))

    run(main)


def test_used_connection_is_replaced_when_it_died_before_a_byte(run):
    """A call that met a stale connection is sent once more on a new one."""

    async def main():
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call())
            peer.answer = lambda connection, _: (
                connection.abort() if connection is peer.connections[0] else connection.write(OK)
            )
            assert (await fetch(upstream, peer.call()))[1] == b"ok"
            assert (len(peer.connections), len(peer.requests)) == (2, 3)

    run(main)


def test_call_is_not_repeated_when_the_new_connection_dies_too(run):
    """There is one repetition, never two; a first connection is not worth any."""

    async def main():
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call())
            peer.answer = lambda connection, _: connection.abort()
            for expected in (3, 4):
                with pytest.raises(ProviderProtocolError, match="before it answered"):
                    await fetch(upstream, peer.call())
                assert len(peer.requests) == expected

    run(main)


@pytest.mark.parametrize(("method", "sent"), [("POST", 2), ("GET", 3)])
def test_late_death_repeats_only_a_get_when_the_connection_was_used(run, monkeypatch, method, sent):
    """A POST whose connection lived on for a second may have been worked on, so it is not sent twice."""

    async def main():
        monkeypatch.setattr("mana_llm.upstream.response._STALE_S", -1.0)
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call())
            peer.answer = lambda connection, _: (
                connection.abort() if connection is peer.connections[0] else connection.write(OK)
            )
            if method == "POST":
                with pytest.raises(ProviderProtocolError):
                    await fetch(upstream, peer.call())
            else:
                await fetch(upstream, peer.call(b"", "GET"))
            assert len(peer.requests) == sent

    run(main)


def test_call_is_not_repeated_when_one_byte_came(run):
    """After a single byte of answer the call is never sent again, GET or not."""

    async def main():
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call())

            def answer(connection, _):
                connection.write(b"H")
                connection.close()

            peer.answer = answer
            with pytest.raises(ProviderProtocolError):
                await fetch(upstream, peer.call(b"", "GET"))
            assert len(peer.requests) == 2

    run(main)


def test_secrets_stay_out_when_an_error_is_printed(run):
    """Errors name the origin, never the target's query or a header."""

    async def main():
        async with serving(lambda connection, _: connection.abort()) as peer:
            upstream = Upstream()
            with pytest.raises(ProviderProtocolError) as caught:
                await fetch(upstream, peer.call(b"PROMPT", "POST", "/x?key=SECRET", b"Authorization: SECRET\r\n"))
            assert str(peer.origin) in str(caught.value)
            assert "SECRET" not in f"{caught.value!r} {upstream!r}"

    run(main)
