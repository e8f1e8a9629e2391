import asyncio
import socket

import pytest

from mana_llm.schema.errors import ProviderConnectError
from mana_llm.upstream.limits import PoolLimits
from tests.upstream.peer import OK, fetch, idle, nothing, talking, turns, until


def test_waiter_gets_the_slot_when_a_busy_connection_is_cut(run):
    """A slot that a cancelled call frees goes to who waits, not to the void (R6)."""

    async def main():
        async with talking(nothing, pool=PoolLimits(connections_max=1, wait_s=60)) as (peer, upstream):
            first = asyncio.ensure_future(fetch(upstream, peer.call()))
            await until(lambda: peer.requests)
            second = asyncio.ensure_future(fetch(upstream, peer.call()))
            await turns()
            peer.answer = lambda connection, _: connection.write(OK)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert (await asyncio.wait_for(second, 5))[1] == b"ok"

    run(main)


def test_waiter_gets_the_slot_when_connecting_fails(run):
    """A slot whose connection did not come about goes to who waits (R6)."""

    async def main():
        async with talking(OK, pool=PoolLimits(connections_max=1, wait_s=60)) as (peer, upstream):
            gate, asked = asyncio.get_running_loop().create_future(), []

            async def resolve_second(host, port):
                asked.append(host)
                if len(asked) == 1:
                    await gate
                return [(socket.AF_INET, (host, port))]

            upstream._resolve = resolve_second
            first, second = (asyncio.ensure_future(fetch(upstream, peer.call())) for _ in range(2))
            await until(lambda: asked)
            await turns()
            gate.set_exception(OSError("unreachable"))
            with pytest.raises(ProviderConnectError):
                await first
            assert (await asyncio.wait_for(second, 5))[1] == b"ok"

    run(main)


def test_connection_is_not_kept_when_the_request_is_not_sent_in_full(run):
    """An answer that came before our request was read is delivered; the rest would precede the next request."""

    async def main():
        def hasty(connection):
            connection.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.01, connection.write, OK)

        async with talking(nothing, on_connect=hasty) as (peer, upstream):
            assert (await fetch(upstream, peer.call(b"x" * 30_000_000)))[1] == b"ok"
            assert idle(upstream) == 0

    run(main)
