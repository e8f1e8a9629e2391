"""A deadline that moves often and seldom expires, at the cost of an assignment.

A timer per request would cost more than the request's routing. One timer per connection is enough: when it fires
early, because the deadline has moved on, it is set anew; it is only replaced when a deadline comes sooner.
"""

import asyncio
from collections.abc import Callable
from typing import Final

_NEVER: Final = float("inf")


class Watch:
    """One connection's deadline. `expired` is called with the phase that ran out."""

    __slots__ = ("_at_s", "_expired", "_loop", "_phase", "_timer", "_timer_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[str], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._phase = ""
        self._at_s = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = _NEVER

    def until(self, limit_s: float, phase: str) -> None:
        """Expire `limit_s` seconds from now, whatever was set before."""
        self._phase = phase
        self._at_s = at_s = self._loop.time() + limit_s
        if at_s < self._timer_s:
            self._arm(at_s)

    def keep(self, limit_s: float, phase: str) -> None:
        """As `until`, but if this phase runs already it keeps its deadline: more data is no more time."""
        if self._phase != phase or self._at_s == _NEVER:
            self.until(limit_s, phase)

    def clear(self) -> None:
        """Expire no more until the next deadline is set."""
        self._at_s = _NEVER
        self._phase = ""

    def stop(self) -> None:
        """The connection is gone."""
        self.clear()
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at_s: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer_s = at_s
        self._timer = self._loop.call_at(at_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._timer_s = _NEVER
        if self._at_s == _NEVER:
            return
        if self._loop.time() < self._at_s:
            self._arm(self._at_s)
            return
        phase = self._phase
        self.clear()
        self._expired(phase)
