"""How much more than what was asked for may be sent upstream, so that an outage is not multiplied.

Two kinds. A retry (a request that one provider failed goes to another) costs nothing as long as the other one is in
good standing: that is failing over, and it is what a gateway is for. Once retries fail there too, they only multiply
the outage: then at most a share of what is in flight may be retries at a time, with a floor so that a quiet gateway
still finds out. A hedge (a second entry is asked because the first is slow) is paid for in advance: every request that
may be hedged puts a twentieth of a hedge aside.

Source: the share of a fifth and the floor of three are Envoy's defaults for retry budgets.
"""

from collections.abc import Iterable
from typing import Final

RETRY_SHARE: Final = 0.2
RETRY_FLOOR: Final = 3
HEDGE_SHARE: Final = 0.05
HEDGES_SAVED_MAX: Final = 5.0
"""Hedges that a quiet time can save up for a slow one."""


class RetryBudgets:
    """The retries that are under way, by name and all together. Each that was let in is followed by one `leave`."""

    __slots__ = ("_all", "_running")

    def __init__(self, names: Iterable[str]) -> None:
        self._running = dict.fromkeys(names, 0)
        self._all = 0

    def enter(self, name: str, in_flight: int, in_flight_all: int) -> bool:
        """Let one more begin, if both budgets allow it: `in_flight` requests are under way there."""
        if self._running[name] >= _most(in_flight) or self._all >= _most(in_flight_all):
            return False
        self._running[name] += 1
        self._all += 1
        return True

    def leave(self, name: str) -> None:
        """One ended."""
        self._running[name] -= 1
        self._all -= 1


def _most(in_flight: int) -> float:
    return max(RETRY_FLOOR, RETRY_SHARE * in_flight)


class HedgeBudget:
    """What has been put aside for hedges; one is there from the start."""

    __slots__ = ("_saved",)

    def __init__(self) -> None:
        self._saved = 1.0

    def earn(self) -> None:
        """A request came that may be hedged."""
        self._saved = min(self._saved + HEDGE_SHARE, HEDGES_SAVED_MAX)

    def spend(self) -> bool:
        """Pay for one hedge; False if there is not enough."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def refund(self) -> None:
        """A hedge that was paid for came to nothing: nobody was asked."""
        self._saved = min(self._saved + 1.0, HEDGES_SAVED_MAX)
