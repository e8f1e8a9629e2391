import asyncio

import pytest

from mana_llm.schema.errors import ProviderTimeoutError
from mana_llm.schema.wire import Limits
from tests.upstream.peer import OK, active, fetch, idle, talking, turns, until

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"1\r\nx\r\n"


def limits(connect_s=9.0, first_s=None, idle_s=9.0, total_s=9.0):
    return Limits(connect_s, first_s, idle_s, total_s)


@pytest.mark.parametrize(
    ("bounds", "answer", "words"),
    [
        (limits(first_s=0.02), b"", r"first token within 0\.02 s"),
        (limits(first_s=0.02), HEAD, r"first token within 0\.02 s"),
        (limits(idle_s=0.02), HEAD, r"nothing more within 0\.02 s"),
        (limits(idle_s=0.02), HEAD + PIECE, r"nothing more within 0\.02 s"),
        (limits(total_s=0.02), b"", r"in full within 0\.02 s"),
        (limits(total_s=0.02), HEAD + PIECE, r"in full within 0\.02 s"),
        (limits(idle_s=0.01, first_s=0.03), HEAD, r"first token within 0\.03 s"),
        (limits(idle_s=0.01, total_s=0.03), b"", r"in full within 0\.03 s"),
    ],
)
def test_limit_is_named_when_it_runs_out(run, bounds, answer, words):
    """Whichever limit ends first ends the call, says its name and seconds, and frees the slot."""

    async def main():
        async with talking(lambda connection, _: connection.write(answer)) as (peer, upstream):
            with pytest.raises(ProviderTimeoutError, match=words):
                await fetch(upstream, peer.call(), bounds)
            await peer.connections[0].gone
            assert active(upstream) == idle(upstream) == 0

    run(main)


def test_silence_is_limited_when_content_began(run):
    """From the first token on silence counts, and the wait for the first token does not."""

    async def main():
        async with talking(HEAD + PIECE) as (peer, upstream):
            response = await upstream.send(peer.call(), limits(first_s=9, idle_s=0.02))
            assert await response.read() == b"x"
            response.content_began()
            response.content_began()
            with pytest.raises(ProviderTimeoutError, match="nothing more"):
                await response.read()

    run(main)


def test_first_token_is_not_awaited_when_content_began(run):
    """The limit for the first token is over once it came."""

    async def main():
        async with talking(HEAD + PIECE) as (peer, upstream):
            response = await upstream.send(peer.call(), limits(first_s=0.02, total_s=0.06))
            response.content_began()
            await response.read()
            with pytest.raises(ProviderTimeoutError, match="in full"):
                await response.read()

    run(main)


def test_what_came_is_read_before_a_limit_is_told(run):
    """Bytes that came in time are delivered first, the failure after them."""

    async def main():
        async with talking(HEAD + PIECE) as (peer, upstream):
            response = await upstream.send(peer.call(), limits(idle_s=0.02))
            await peer.connections[0].gone
            assert await response.read() == b"x"
            with pytest.raises(ProviderTimeoutError):
                await response.read()

    run(main)


def test_silence_is_ours_when_reading_is_paused(run):
    """While we do not read, the upstream's silence does not count; once we read again, it does."""

    async def main():
        size = 20_000_000
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
        async with talking(answer) as (peer, upstream):
            response = await upstream.send(peer.call(), limits(idle_s=0.05))
            await until(lambda: response._paused)
            passed = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.12, passed.set_result, None)
            await passed
            assert len(await response.read_all(size)) == size

    run(main)


def test_deadline_counts_when_the_upstream_does_not_read_the_request(run):
    """A peer that never takes a large body runs into the total."""

    async def main():
        def deaf(connection):
            connection.transport.pause_reading()

        async with talking(OK, on_connect=deaf) as (peer, upstream):
            with pytest.raises(ProviderTimeoutError, match="in full"):
                await fetch(upstream, peer.call(b"x" * 30_000_000), limits(total_s=0.05))

    run(main)


def test_timer_is_armed_once_when_many_calls_use_a_connection(run):
    """A call on a used connection arms and cancels no timer (the budget of docs/behaviour.md)."""

    async def main():
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call())
            (connection,) = next(iter(upstream._pools.values()))._all
            timer = connection._timer
            for _ in range(20):
                await fetch(upstream, peer.call(), limits(total_s=600, idle_s=60))
            assert connection._timer is timer
            assert not timer.cancelled()
            await fetch(upstream, peer.call(), limits(total_s=1))
            assert connection._timer is not timer

    run(main)


def test_early_timer_does_nothing_when_the_limit_moved(run):
    """A timer armed for an earlier call looks at the limits of the present one."""

    async def main():
        held = []
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call(), limits(total_s=0.2))
            peer.answer = lambda connection, _: held.append(connection)
            task = asyncio.ensure_future(fetch(upstream, peer.call(), limits(total_s=5)))
            passed = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.25, passed.set_result, None)
            await passed
            assert not task.done()
            held[0].write(OK)
            assert (await task)[1] == b"ok"

    run(main)


@pytest.mark.parametrize("answer", [b"", HEAD, HEAD + PIECE])
def test_cancel_frees_the_slot_when_waiting(run, answer):
    """A cancelled send or read passes the cancellation on and cuts the connection at once."""

    async def main():
        async with talking(lambda connection, _: connection.write(answer)) as (peer, upstream):
            task = asyncio.ensure_future(fetch(upstream, peer.call()))
            await until(lambda: peer.requests)
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert active(upstream) == idle(upstream) == 0
            await peer.connections[0].gone

    run(main)
