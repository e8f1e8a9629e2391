"""How many requests a provider is given at once, and who is next when it is full.

A provider has seats. Whoever finds one free takes it; whoever does not may wait in a bounded queue (`kit.lanes`) for
a bounded time. A seat that is given back while somebody waits is handed over at that moment: it never counts as
free, so nobody overtakes and there are never more seats taken than there are. Whoever was handed a seat and is
cancelled before it could sit down hands it on.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from mana_llm.kit.lanes import Lanes
from mana_llm.ports import Clock
from mana_llm.schema.events import Visitor

HOLD_WEIGHT: Final = 1 / 8
"""How much the newest holding time counts in their mean. Source: RFC 6298, 2.3 (alpha)."""

Seat = asyncio.Future[bool]
"""What a waiter waits for: True is a seat, False says to wait no longer."""


class QueuePolicy(msgspec.Struct, frozen=True):
    """How many may wait for one provider, and for how long where the chain has another entry."""

    waiting_max: int
    wait_s: float


class Gate:
    """The seats of one provider. Each that was entered is left once.

    `in_flight` counts the seats that are taken; `max_concurrent` is how many there are, 0 where there is no limit.
    """

    __slots__ = ("_entered", "_hold_s", "_lanes", "_now_s", "_waiting_max", "in_flight", "max_concurrent")

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

    @property
    def waiting(self) -> int:
        """How many wait for a seat."""
        return self._lanes.waiting

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

    async def enter(self, visitor: Visitor, wait_s: float, worth_s: float | None = None) -> bool:
        """Take a seat, after at most `wait_s` seconds; False if none came.

        False at once if the wait is expected to take longer than `worth_s`, or if as many wait as may and none of
        them must yield; whoever yields gets False, too.
        """
        if self.enter_now():
            return True
        if wait_s <= 0 or (worth_s is not None and self.expected_wait_s(visitor) > worth_s):
            return False
        if not self._has_place(visitor):
            return False
        loop = asyncio.get_running_loop()
        seat: Seat = loop.create_future()
        self._lanes.add(visitor, seat)
        timer = loop.call_later(wait_s, self._turn_away, visitor, seat)
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
            timer.cancel()

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

    def _has_place(self, visitor: Visitor) -> bool:
        """Whether there is a place in the queue, if need be because somebody yields."""
        if self.waiting < self._waiting_max:
            return True
        yielding = self._lanes.yielding_to(visitor)
        if yielding:
            self._turn_away(*yielding)
        return yielding is not None

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


class Admission:
    """The gate of every provider that `limits` names."""

    def __init__(self, limits: Mapping[str, int], policy: QueuePolicy, clock: Clock) -> None:
        self.policy = policy
        self.gates: Mapping[str, Gate] = {
            name: Gate(max_concurrent, policy.waiting_max, clock) for name, max_concurrent in limits.items()
        }
