"""Walks to which many things happen within one turn of the loop: whatever they come to, nothing is left behind."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.routing.answer import Answer
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Policy, Route
from tests.routing.test_walk_model import CHAINS, WHICH
from tests.routing.walk_world import ERRORS, SEATS, RealWorld

POLICIES = st.builds(
    Policy,
    ttft_s=st.sampled_from((None, 3.11)),
    hedge_after_s=st.sampled_from((None, 0.57, 0.57)),
    kind=st.just("chat"),
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("comes"), CHAINS, st.tuples(POLICIES, st.booleans())),
        st.tuples(st.just("ends"), WHICH, st.sampled_from(["ok", "ok", "ok", "500", "connect", "429", "key"])),
        st.tuples(st.just("leaves"), WHICH, st.integers(1, 2)),
        st.tuples(st.just("closes"), WHICH, st.none()),
        st.tuples(st.just("turns"), st.integers(1, 3), st.none()),
        st.tuples(st.just("passes"), st.sampled_from((0.3, 0.57, 2.03, 3.11, 20.0)), st.none()),
    ),
    min_size=20,
    max_size=80,
)


class Client:
    """What the edge does with an answer: hold it until its end, and let go of it in any case."""

    def __init__(self, world: RealWorld, number: int, route: Route, *, stream: bool) -> None:
        self.world = world
        self.number = number
        self.end = asyncio.Event()
        self.task = world.loop.create_task(self._live(route, stream))

    async def _live(self, route: Route, stream: bool) -> None:
        answer: Answer | None = None
        request = ChatRequest({}, str(self.number), stream, include_usage=False)
        try:
            answer = await self.world.router.answer(request, route, Exchange("x", 1.0))
            if stream:
                await self.end.wait()
        finally:
            if answer:
                answer.close()


class Rich:
    """A budget that pays for every hedge, so that every race is run."""

    def earn(self) -> None:
        pass

    def spend(self) -> bool:
        return True

    def refund(self) -> None:
        pass


class Storm:
    """The events, one after the other, with no more turns of the loop in between than they say."""

    def __init__(self) -> None:
        self.world = RealWorld()
        self.world.router._hedges = Rich()  # type: ignore[assignment]
        self.clients: list[Client] = []
        self.count = 0

    def play(self, events: list[Any]) -> None:
        for word, what, how in events:
            getattr(self, word)(what, how)
            self.holds()
        self.all_leave()

    def comes(self, chain: Any, how: Any) -> None:
        policy, stream = how
        self.count += 1
        route = Route("asked", chain, "mana/any", "1", policy)
        self.clients.append(Client(self.world, self.count, route, stream=stream))

    def ends(self, which: int, how: str) -> None:
        calls = [call for call in self.world.upstreams.calls if not call.outcome.done()]
        if calls:
            calls[which % len(calls)].outcome.set_result(None if how == "ok" else ERRORS[how]())

    def leaves(self, which: int, times: int) -> None:
        """The client leaves; where that is told twice, a turn later."""
        if not self.clients:
            return
        client = self.clients[which % len(self.clients)]
        client.task.cancel()
        if times > 1:
            self.turns(1, None)
            client.task.cancel()

    def closes(self, which: int, _: None) -> None:
        if self.clients:
            self.clients[which % len(self.clients)].end.set()

    def turns(self, count: int, _: None) -> None:
        loop = self.world.loop
        for _ in range(count):
            loop.call_soon(loop.stop)
            loop.run_forever()

    def passes(self, seconds: float, _: None) -> None:
        self.world.loop.now += seconds

    def holds(self) -> None:
        tries = [(request, label) for request, label, _ in self.world.upstreams.asked]
        assert len(tries) == len(set(tries))
        for name, seats in SEATS.items():
            assert not seats or self.world.admission.gates[name].in_flight <= seats

    def all_leave(self) -> None:
        """Nothing is left: no seat, no permit, no retry, no call, no answer that nobody closes."""
        world = self.world
        world.settle()
        for client in self.clients:
            client.task.cancel()
        world.settle()
        assert all(client.task.done() for client in self.clients)
        for client in self.clients:
            if not client.task.cancelled():
                client.task.exception()
        assert (world.upstreams.calls, world.upstreams.open) == ([], [])
        for name, gate in world.admission.gates.items():
            assert (gate.in_flight, gate.waiting, len(gate._entered)) == (0, 0, 0)
            assert not world.health._breakers[name].trial
            assert not world.router._retries._running[name]
            assert not gate._flowing
        assert world.router._retries._all == 0
        world.loop.close()


def play(events: list[Any]) -> None:
    Storm().play(events)


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_nothing_is_left_when_many_things_happen_to_walks_in_one_turn(events):
    """Seats, permits, retries, calls and answers are all given back, whatever falls into one turn of the loop."""
    play(events)


@pytest.mark.long
@settings(max_examples=4_000, deadline=None, database=None)
@given(EVENTS)
def test_nothing_is_left_when_many_things_happen_to_walks_for_long(events):
    """Four thousand storms leave nothing behind."""
    play(events)
