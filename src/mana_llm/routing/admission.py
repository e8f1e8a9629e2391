"""How many requests a provider is given at once, and who is next when it is full.

A provider has seats. Whoever finds one free takes it; whoever does not may wait in a bounded queue (`kit.lanes`) for
a bounded time. A seat that is given back while somebody waits is handed over at that moment: it never counts as
free, so nobody overtakes and there are never more seats taken than there are. Whoever was handed a seat and is
cancelled before it could sit down hands it on.

Who waits looks about now and then, whether it would be served elsewhere by now, and keeps its place in the queue
meanwhile. When the provider turns out to be ill, everybody who waits is sent away at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from mana_llm.kit.lanes import Lanes
from mana_llm.ports import Clock
from mana_llm.schema.events import Visitor

HOLD_WEIGHT: Final = 1 / 8
"""How much the newest holding time counts in their mean. Source: RFC 6298, 2.3 (alpha)."""

LOOK_S_MIN: Final = 0.1
"""Seconds between two looks at the other entries, however little patience is set: each waiter looks for itself."""

Seat = asyncio.Future[bool]
"""What a waiter waits for: True is a seat, False says to wait no longer."""


class QueuePolicy(msgspec.Struct, frozen=True):
    """How many may wait for one provider, and for how long where the chain has another entry."""

    waiting_max: int
    wait_s: float


class Looking(msgspec.Struct, frozen=True):
    """Every `every_s` seconds a waiter asks `elsewhere`, and waits no longer if that says yes."""

    every_s: float
    elsewhere: Callable[[], bool]


class _Waiter(msgspec.Struct):
    """One in the queue: until which instant, and what will happen next."""

    visitor: Visitor
    seat: Seat
    until_s: float
    timer: asyncio.TimerHandle | None = None


class Gate:
    """The seats of one provider. Each that was entered is left once.

    `in_flight` counts the seats that are taken; `max_concurrent` is how many there are, 0 where there is no limit.
    """

    __slots__ = (
        "_entered",
        "_flowed_s",
        "_flowing",
        "_hold_s",
        "_lanes",
        "_now_s",
        "_waiting_max",
        "in_flight",
        "max_concurrent",
    )

    def __init__(self, max_concurrent: int, waiting_max: int, clock: Clock) -> None:
        self.max_concurrent = max_concurrent
        self.in_flight = 0
        self._waiting_max = waiting_max
        self._now_s = clock.now_s
        self._lanes: Lanes[Seat] = Lanes()
        # When the taken seats were taken, the oldest first. Who leaves is taken for the oldest, so that a seat needs
        # no name: single times are wrong then, and their mean is the seats taken through the rate of leaving
        # (Little's law), which is what somebody who waits wants to know.
        self._entered: deque[float] = deque()
        self._hold_s = 0.0
        self._flowing = 0
        self._flowed_s = 0.0

    @property
    def waiting(self) -> int:
        """How many wait for a seat."""
        return self._lanes.waiting

    @property
    def is_full(self) -> bool:
        """Whether every seat is taken."""
        return 0 < self.max_concurrent <= self.in_flight

    def enter_now(self) -> bool:
        """Take a seat if one is free. Nobody waits then: a seat is free only when nobody wants it."""
        if not self.max_concurrent:
            self.in_flight += 1
            return True
        if self.in_flight >= self.max_concurrent:
            return False
        self.in_flight += 1
        self._entered.append(self._now_s())
        return True

    async def enter(
        self, visitor: Visitor, wait_s: float, worth_s: float | None = None, looking: Looking | None = None
    ) -> bool:
        """Take a seat, after at most `wait_s` seconds; False if none came, or `looking` found something better.

        False at once if the wait is expected to take longer than `worth_s`, or if as many wait as may and none of
        them must yield; whoever yields gets False, too.
        """
        if self.enter_now():
            return True
        if looking and not looking.every_s and looking.elsewhere():
            return False
        if not self.may_wait(visitor, wait_s, worth_s):
            return False
        self._make_place(visitor)
        loop = asyncio.get_running_loop()
        seat: Seat = loop.create_future()
        self._lanes.add(visitor, seat)
        waiter = _Waiter(visitor, seat, self._now_s() + wait_s)
        self._wait(waiter, looking, looking.every_s if looking else wait_s)
        try:
            return await seat
        except BaseException:
            if seat.done() and not seat.cancelled() and seat.result():
                # It was handed over before the cancellation came; nobody sat on it.
                self._entered.pop()
                self._hand_on()
            self._lanes.remove(visitor, seat)
            raise
        finally:
            if waiter.timer:
                waiter.timer.cancel()

    def may_wait(self, visitor: Visitor, wait_s: float, worth_s: float | None) -> bool:
        """Whether `enter` would let `visitor` wait for a seat; it does not wait, and nobody yields yet."""
        if wait_s <= 0 or (worth_s is not None and self.expected_wait_s(visitor) > worth_s):
            return False
        return self.waiting < self._waiting_max or self._lanes.yielding_to(visitor) is not None

    def leave(self) -> None:
        """Give a seat back; whoever is next has it at once."""
        if not self.max_concurrent:
            self.in_flight -= 1
            return
        held_s = self._now_s() - self._entered.popleft()
        self._hold_s += (held_s - self._hold_s) * (HOLD_WEIGHT if self._hold_s else 1.0)
        if self._lanes.waiting:
            self._hand_on()
        else:
            self.in_flight -= 1

    def flow(self) -> None:
        """Somebody on a seat turned out to be a stream, whose content flows from now on; `leave_flow` ends it."""
        self._flowing += 1

    def leave_flow(self) -> None:
        """Give a stream's seat back."""
        self._flowing -= 1
        if self.max_concurrent:
            self._flowed_s = self._now_s()
        self.leave()

    def flowed_since(self, since_s: float) -> bool:
        """Whether a stream flowed here at or after an instant; known where seats are limited."""
        return self._flowing > 0 or self._flowed_s >= since_s

    def expected_wait_s(self, visitor: Visitor | None = None) -> float:
        """How long `visitor` would wait if it came now, by what the seats were lately held for; None is somebody new
        behind everybody. 0.0 while a seat is free, or nothing is known yet.
        """
        if not self.max_concurrent or self.in_flight < self.max_concurrent:
            return 0.0
        ahead = self._lanes.ahead_of(visitor) if visitor else self.waiting
        # Where every seat has been taken for longer than the mean, the mean is out of date.
        hold_s = max(self._hold_s, self._now_s() - self._entered[-1])
        return (ahead + 1) * hold_s / self.max_concurrent

    def _make_place(self, visitor: Visitor) -> None:
        """Make a place in a full queue: somebody yields."""
        if self.waiting >= self._waiting_max and (yielding := self._lanes.yielding_to(visitor)):
            self._turn_away(*yielding)

    def _hand_on(self) -> None:
        """Give a seat that nobody sits on to whoever is next, or count it free."""
        while (seat := self._lanes.first()) is not None:
            # A waiter that was cancelled and has not run yet: its caller keeps its turn.
            if not seat.done():
                self._lanes.serve()
                self._entered.append(self._now_s())
                seat.set_result(True)
                return
            self._lanes.drop()
        self.in_flight -= 1

    def _turn_away(self, visitor: Visitor, seat: Seat) -> None:
        self._lanes.remove(visitor, seat)
        if not seat.done():
            seat.set_result(False)

    def turn_all_away(self) -> None:
        """Take everybody out of the queue; who sits stays."""
        while (seat := self._lanes.first()) is not None:
            self._lanes.drop()
            if not seat.done():
                seat.set_result(False)

    def _wait(self, waiter: _Waiter, looking: Looking | None, look_s: float) -> None:
        """Let somebody wait until its time is over, or for `look_s` seconds and then look about."""
        loop, left_s = asyncio.get_running_loop(), waiter.until_s - self._now_s()
        if looking is None or left_s <= look_s:
            waiter.timer = loop.call_later(left_s, self._turn_away, waiter.visitor, waiter.seat)
        else:
            waiter.timer = loop.call_later(look_s, self._look, waiter, looking)

    def _look(self, waiter: _Waiter, looking: Looking) -> None:
        if looking.elsewhere():
            self._turn_away(waiter.visitor, waiter.seat)
        else:
            self._wait(waiter, looking, max(looking.every_s, LOOK_S_MIN))


class Admission:
    """The gate of every provider that `limits` names."""

    def __init__(self, limits: Mapping[str, int], policy: QueuePolicy, clock: Clock) -> None:
        self.policy = policy
        self.gates: Mapping[str, Gate] = {
            name: Gate(max_concurrent, policy.waiting_max, clock) for name, max_concurrent in limits.items()
        }

    def turn_all_away(self, provider: str) -> None:
        """Let nobody wait for a provider any longer: it is ill."""
        self.gates[provider].turn_all_away()
