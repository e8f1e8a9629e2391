"""A provider's gate against a plain reference: whatever comes, leaves, gives up or is cancelled, in any order."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from mana_llm.routing.admission import Gate, Looking
from mana_llm.schema.events import Visitor
from tests.turned import TurnedLoop

WAITING_MAX = 4
LOOK_S = 0.75


class Guest:
    """One request in the reference: `new`, `waiting`, `granted` (a seat is its own, it has not sat down yet), `in`,
    `refused`, `gone` (cancelled while it waited, and it has not noticed yet), or `over`.
    """

    def __init__(self, visitor: Visitor, wait_s: float, task: asyncio.Task[bool]) -> None:
        self.visitor = visitor
        self.wait_s = wait_s
        self.until_s = 0.0
        self.task = task
        self.look_s = float("inf")
        self.state = "new"
        self.sat = False
        self.cancelled = False

    def sits(self) -> None:
        self.state, self.sat = "in", True


class Reference:
    """The gate in plain words: `queue` is a list of guests, `rounds` the callers of a lane in turn."""

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.taken = 0
        self.queue: list[Guest] = []
        self.rounds: dict[str, list[str]] = {"interactive": [], "batch": []}
        self.events: list[Guest] = []
        self.elsewhere = False

    def arrives(self, guest: Guest, now_s: float) -> None:
        if self.taken < self.seats:
            self.taken += 1
            guest.sits()
            return
        if len(self.queue) >= WAITING_MAX:
            loser = self.loser(guest.visitor)
            if loser is None:
                guest.state = "refused"
                return
            self.out(loser)
            if loser.state == "waiting":
                loser.state = "refused"
        guest.state, guest.until_s, guest.look_s = "waiting", now_s + guest.wait_s, now_s + LOOK_S
        self.queue.append(guest)
        if guest.visitor.caller not in self.rounds[guest.visitor.lane]:
            self.rounds[guest.visitor.lane].append(guest.visitor.caller)

    def loser(self, visitor: Visitor) -> Guest | None:
        batch = [guest for guest in self.queue if guest.visitor.lane == "batch"]
        if visitor.lane == "interactive" and batch:
            return self.newest(batch)
        lane = [guest for guest in self.queue if guest.visitor.lane == visitor.lane]
        counts = Counter(guest.visitor.caller for guest in lane)
        if lane and max(counts.values()) > counts[visitor.caller] + 1:
            return self.newest(lane)
        return None

    def newest(self, guests: list[Guest]) -> Guest:
        counts = Counter(guest.visitor.caller for guest in guests)
        ring = self.rounds[guests[0].visitor.lane]
        busiest = max(ring, key=lambda caller: counts[caller])
        return [guest for guest in guests if guest.visitor.caller == busiest][-1]

    def out(self, guest: Guest) -> None:
        """Take a guest from the queue; a caller with nobody left loses its turn."""
        if guest not in self.queue:
            return
        self.queue.remove(guest)
        lane, caller = guest.visitor.lane, guest.visitor.caller
        if not any((other.visitor.lane, other.visitor.caller) == (lane, caller) for other in self.queue):
            self.rounds[lane].remove(caller)

    def hand_on(self) -> None:
        for lane, ring in self.rounds.items():
            for caller in list(ring):
                line = [guest for guest in self.queue if guest.visitor == Visitor(caller, lane)]
                for guest in line:
                    self.out(guest)
                    if guest.state == "waiting":
                        guest.state = "granted"
                        if caller in ring:
                            ring.remove(caller)
                            ring.append(caller)
                        self.events.append(guest)
                        return
        self.taken -= 1

    def cancels(self, guest: Guest) -> None:
        guest.cancelled = True
        if guest.state == "waiting":
            guest.state = "gone"
            self.events.append(guest)

    def turn(self, now_s: float) -> None:
        """What was begun is done in its order, then time-outs, then what those cause."""
        self.settle(now_s)
        for guest in list(self.queue):
            if guest.state != "waiting":
                continue
            if guest.until_s <= now_s or (guest.look_s <= now_s and self.elsewhere):
                self.out(guest)
                guest.state = "refused"
            elif guest.look_s <= now_s:
                guest.look_s = now_s + LOOK_S
        self.settle(now_s)

    def settle(self, now_s: float) -> None:
        while self.events:
            guest = self.events.pop(0)
            if guest.state == "new" and not guest.cancelled:
                self.arrives(guest, now_s)
            elif guest.state == "granted" and not guest.cancelled:
                guest.sits()
            else:
                was, guest.state = guest.state, "over"
                self.out(guest)
                if was == "granted":
                    self.hand_on()


class Model(stateful.RuleBasedStateMachine):
    """Several rules between two turns of the loop are what happens at the same moment."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = TurnedLoop()
        self.guests: list[Guest] = []
        self.looking = Looking(LOOK_S, lambda: self.model.elsewhere)
        self.opens(1)

    @initialize(seats=st.sampled_from((1, 2, 3)))
    def opens(self, seats: int) -> None:
        self.gate = Gate(seats, WAITING_MAX, self.loop)
        self.model = Reference(seats)

    def teardown(self) -> None:
        """Everybody leaves, and every seat is free again."""
        for guest in self.guests:
            guest.task.cancel()
            self.model.cancels(guest)
        self.turn()
        while any(guest.state == "in" for guest in self.guests):
            self.leaves(next(guest for guest in self.guests if guest.state == "in"))
            self.turn()
        self.loop.close()
        assert (self.gate.in_flight, self.gate.waiting, len(self.gate._entered)) == (0, 0, 0)

    def of(self, *states: str) -> list[Guest]:
        return [guest for guest in self.guests if guest.state in states and not guest.cancelled]

    @rule(
        caller=st.sampled_from("abc"),
        lane=st.sampled_from(("interactive", "batch")),
        wait_s=st.sampled_from((1.0, 2.0, 5.0)),
    )
    def comes(self, caller: str, lane: Any, wait_s: float) -> None:
        visitor = Visitor(caller, lane)
        guest = Guest(visitor, wait_s, self.loop.create_task(self.gate.enter(visitor, wait_s, None, self.looking)))
        self.guests.append(guest)
        self.model.events.append(guest)

    @precondition(lambda self: self.of("in"))
    @rule(data=st.data())
    def one_leaves(self, data) -> None:
        self.leaves(data.draw(st.sampled_from(self.of("in")), label="who"))

    def leaves(self, guest: Guest) -> None:
        self.gate.leave()
        guest.state = "over"
        self.model.hand_on()

    @precondition(lambda self: self.of("new", "waiting", "granted"))
    @rule(data=st.data())
    def is_cancelled(self, data) -> None:
        guest = data.draw(st.sampled_from(self.of("new", "waiting", "granted")), label="who")
        guest.task.cancel()
        self.model.cancels(guest)

    @precondition(lambda self: self.of("refused"))
    @rule()
    def is_cancelled_too_late(self) -> None:
        """Who was refused may be cancelled: it has nothing to give back."""
        self.of("refused")[0].task.cancel()

    @rule()
    def is_ill(self) -> None:
        """The provider trips: nobody waits any longer."""
        self.gate.turn_all_away()
        for guest in list(self.model.queue):
            self.model.out(guest)
            if guest.state == "waiting":
                guest.state = "refused"

    @rule(elsewhere=st.booleans())
    def another_is_well_or_not(self, elsewhere: bool) -> None:
        self.model.elsewhere = elsewhere

    @rule(seconds=st.sampled_from((0.5, 1.0, 3.0)))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds

    @rule()
    def turn(self) -> None:
        # What was begun before the time-outs of this turn is done before them, by the reference and by the loop.
        self.loop.turn()
        self.model.turn(self.loop.now)
        for guest in self.guests:
            if guest.task.done() and not guest.task.cancelled():
                assert guest.task.result() is guest.sat
            assert guest.task.done() or guest.state == "waiting"
        self.guests = [guest for guest in self.guests if guest.state in ("waiting", "in")]

    @precondition(lambda self: not self.model.events)
    @rule()
    def walks_in(self) -> None:
        """Who does not want to wait takes a free seat, but never one that somebody waits for."""
        free = self.model.taken < self.model.seats
        assert self.gate.enter_now() is free
        if free:
            done = self.loop.create_future()
            done.set_result(True)
            guest = Guest(Visitor("walker"), 0.0, done)  # type: ignore[arg-type]
            guest.sits()
            self.guests.append(guest)
            self.model.taken += 1

    @invariant()
    def agrees(self) -> None:
        assert self.gate.in_flight == self.model.taken <= self.model.seats
        assert self.gate.waiting == len(self.model.queue) <= WAITING_MAX
        assert len(self.gate._entered) == self.gate.in_flight
        assert not self.of("waiting") or self.gate.in_flight == self.model.seats


TestGateAgreesWithItsReference = Model.TestCase
TestGateAgreesWithItsReference.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.long
def test_gate_agrees_with_its_reference_when_the_run_is_long():
    """No divergence in 200,000 steps."""
    stateful.run_state_machine_as_test(
        Model, settings=settings(max_examples=2_000, stateful_step_count=100, deadline=None)
    )
