import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.schema.errors import ProviderConnectError
from mana_llm.upstream.limits import PoolLimits
from tests.upstream.peer import LIMITS, OK, active, fetch, idle, nothing, serving, talking, turns, until

R5_FULL, R5 = 5_000, 500
R6_FULL, R6 = 20_000, 2_000


def answer_later(connection, _):
    """Answer in the loop's next turns, so that requests overlap."""
    asyncio.get_running_loop().call_soon(connection.write, OK)


async def double_cancel(count):
    async with talking(answer_later, pool=PoolLimits(connections_max=10)) as (peer, upstream):
        for index in range(count):
            task = asyncio.ensure_future(fetch(upstream, peer.call()))
            await turns(index % 7)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert active(upstream) == 0
        assert (await fetch(upstream, peer.call()))[1] == b"ok"


async def contend(count):
    dice = random.Random(6)
    async with talking(answer_later, pool=PoolLimits(connections_max=10, wait_s=60)) as (peer, upstream):

        async def one():
            task = asyncio.ensure_future(fetch(upstream, peer.call()))
            if dice.random() < 0.4:
                await turns(dice.randrange(30))
                task.cancel()
                if dice.random() < 0.5:
                    await asyncio.sleep(0)
                    task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(outcome, asyncio.CancelledError):
                assert outcome[1] == b"ok"
            return outcome

        for _ in range(count // 100):
            await asyncio.gather(*(one() for _ in range(100)))
            assert active(upstream) == 0, upstream
            assert idle(upstream) <= 10
        answers = await asyncio.gather(*(fetch(upstream, peer.call()) for _ in range(10)))
        assert [body for _, body in answers] == [b"ok"] * 10
        assert sum(not connection.gone.done() for connection in peer.connections) <= 10


def test_slot_is_free_when_cancelled_twice(run):
    """R5 (500 of 5,000): cancelled twice with a turn between, at every await, no slot is lost; the next call goes."""
    run(lambda: double_cancel(R5))


@pytest.mark.long
def test_slot_is_free_when_cancelled_twice_in_full(run):
    """R5 (5,000 of 5,000): cancelled twice with a turn between, at every await, no slot is lost; the next call goes."""
    run(lambda: double_cancel(R5_FULL))


def test_no_slot_is_lost_when_contended_calls_are_cancelled(run):
    """R6 (2,000 of 20,000): a pool of 10 under ten times as many callers, many cancelled, loses no slot."""
    run(lambda: contend(R6))


@pytest.mark.long
def test_no_slot_is_lost_when_contended_calls_are_cancelled_in_full(run):
    """R6 (20,000 of 20,000): a pool of 10 under ten times as many callers, many cancelled, loses no slot."""
    run(lambda: contend(R6_FULL))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["answer", "hang", "abort", "cut", "close"])),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("turn"), st.integers(0, 8)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_pool_keeps_its_count_whatever_happens(steps, connections_max):
    """In any order of calls, answers, hangs, deaths and cancels the pool holds no more than it may, and in the
    end nothing but idle connections.
    """
    asyncio.run(play(steps, connections_max))


def check(upstream, connections_max):
    for pool in upstream._pools.values():
        assert len(pool._all) + pool._opening <= connections_max
        assert len(pool._idle) <= 2
        assert set(pool._idle) <= pool._all


async def play(steps, connections_max):
    def answer(connection, request):
        body = request.partition(b"\r\n\r\n")[2]
        if body == b"abort":
            connection.abort()
        elif body in (b"cut", b"close"):
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            if body == b"close":
                connection.close()
        elif body == b"answer":
            connection.write(OK)

    pool = PoolLimits(connections_max=connections_max, idle_max=2, waiters_max=4)
    async with talking(answer, pool=pool) as (peer, upstream):
        tasks = []
        for kind, value in steps:
            if kind == "send":
                tasks.append(asyncio.ensure_future(fetch(upstream, peer.call(value.encode()))))
            elif kind == "cancel" and tasks:
                tasks[value % len(tasks)].cancel()
            else:
                await turns(value)
            check(upstream, connections_max)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert active(upstream) == 0, upstream
        assert (await fetch(upstream, peer.call(b"answer")))[1] == b"ok"


def test_call_is_refused_when_the_pool_stays_full(run):
    """Who waits longer than the pool's patience, or finds the queue full, hears that the pool is full."""

    async def main():
        pool = PoolLimits(connections_max=1, wait_s=0.02, waiters_max=1)
        async with talking(nothing, pool=pool) as (peer, upstream):
            holder = asyncio.ensure_future(fetch(upstream, peer.call()))
            await until(lambda: peer.requests)
            outcomes = await asyncio.gather(
                fetch(upstream, peer.call()), fetch(upstream, peer.call()), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [ProviderConnectError] * 2
            assert "pool" in str(outcomes[0])
            assert "full" in str(outcomes[1])
            holder.cancel()
            await asyncio.gather(holder, return_exceptions=True)

    run(main)


def test_waiters_are_served_in_order_when_the_pool_is_full(run):
    """Who came first is served first, and a newcomer does not overtake."""

    async def main():
        order = []
        async with talking(answer_later, pool=PoolLimits(connections_max=1)) as (peer, upstream):

            async def one(number):
                await fetch(upstream, peer.call())
                order.append(number)
                if number < 3:
                    await one(number + 10)

            await asyncio.gather(*(one(number) for number in range(6)))
            assert order == [0, 1, 2, 3, 4, 5, 10, 11, 12]
            assert len(peer.connections) == 1

    run(main)


def test_last_used_connection_is_taken_first_when_several_are_idle(run):
    """The warmest idle connection serves next; more than may be kept are closed, the oldest first."""

    async def main():
        held = []
        hold = lambda connection, _: held.append(connection)  # noqa: E731
        async with talking(hold, pool=PoolLimits(idle_max=2)) as (peer, upstream):
            tasks = [asyncio.ensure_future(fetch(upstream, peer.call())) for _ in range(3)]
            await until(lambda: len(held) == 3)
            for connection in held:
                connection.write(OK)
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1
            assert idle(upstream) == 2
            await held[0].gone
            last = held[2]
            peer.answer = lambda connection, _: (held.append(connection), connection.write(OK))
            await fetch(upstream, peer.call())
            assert held[-1] is last

    run(main)


def test_idle_connection_is_closed_when_it_was_idle_too_long(run):
    """An idle connection goes at its time, by its own timer and without another request."""

    async def main():
        async with talking(OK, pool=PoolLimits(idle_s=0.02)) as (peer, upstream):
            await fetch(upstream, peer.call())
            await peer.connections[0].gone
            assert idle(upstream) == 0

    run(main)


def test_idle_connection_leaves_when_the_peer_closes_it(run):
    """A connection that the peer closed while idle is not offered again."""

    async def main():
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call())
            peer.connections[0].close()
            await until(lambda: not idle(upstream))
            await fetch(upstream, peer.call())
            assert (len(peer.connections), len(peer.requests)) == (2, 2)

    run(main)


def test_repr_tells_the_state_when_printed(run):
    """One line says who is active, who waits, and what lies idle."""

    async def main():
        async with talking(OK) as (peer, upstream):
            await fetch(upstream, peer.call())
            assert repr(upstream) == (
                f"<Upstream [<Pool {peer.origin} [Requests: 0 active, 0 queued | "
                "Connections: 0 active, 0 opening, 1 idle]>]>"
            )

    run(main)


def test_close_turns_everyone_away_when_calls_are_under_way(run):
    """Closing cuts what is open, turns away who waits, and refuses who comes later."""

    async def main():
        from mana_llm.upstream.client import Upstream

        async with serving(nothing) as peer:
            upstream = Upstream(limits=PoolLimits(connections_max=1))
            tasks = [asyncio.ensure_future(upstream.send(peer.call(), LIMITS)) for _ in range(3)]
            await until(lambda: peer.requests)
            await upstream.close()
            outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1)
            assert all(isinstance(outcome, Exception) for outcome in outcomes)
            with pytest.raises(ProviderConnectError, match="shutting down"):
                await upstream.send(peer.call(), LIMITS)
            assert active(upstream) == idle(upstream) == 0

    run(main)
