"""A queue of two lanes, fair within each.

Whoever is interactive goes before all batch work. Within a lane the callers take turns, one request each, so that
a caller who sends a hundred does not make another wait for all of them; one caller's own requests keep their order.
Who joins takes the last turn of the round. Who leaves without having been served costs its caller no turn.

When every place is taken, the same order says who must yield to a newcomer: batch work to an interactive request,
and within a lane the caller with the most requests, but only to somebody who would still have fewer.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from mana_llm.schema.events import Lane, Visitor

T = TypeVar("T", bound=Hashable)
Ring = OrderedDict[str, OrderedDict[T, None]]
"""A lane: its callers in the order of their turns, each with its items, the oldest first."""


class Lanes(Generic[T]):
    """The queue. An item stands in it once; `waiting` counts them."""

    def __init__(self) -> None:
        self._interactive: Ring[T] = OrderedDict()
        self._batch: Ring[T] = OrderedDict()
        self.waiting = 0

    def add(self, visitor: Visitor, item: T) -> None:
        """Queue `item` behind its caller's others."""
        self._ring(visitor.lane).setdefault(visitor.caller, OrderedDict())[item] = None
        self.waiting += 1

    def first(self) -> T | None:
        """Whose turn it is; None if nobody waits."""
        ring = self._interactive or self._batch
        return next(iter(next(iter(ring.values())))) if ring else None

    def serve(self) -> None:
        """Take out the first: its caller's next turn comes after everybody else's."""
        ring = self._interactive or self._batch
        caller, line = ring.popitem(last=False)
        line.popitem(last=False)
        self.waiting -= 1
        if line:
            ring[caller] = line

    def drop(self) -> None:
        """Take out the first unserved: its caller keeps its turn."""
        ring = self._interactive or self._batch
        caller, line = next(iter(ring.items()))
        line.popitem(last=False)
        self.waiting -= 1
        if not line:
            del ring[caller]

    def remove(self, visitor: Visitor, item: T) -> None:
        """Take out `item` unserved; nothing if it is not there."""
        ring = self._ring(visitor.lane)
        line = ring.get(visitor.caller)
        if line is None or item not in line:
            return
        del line[item]
        self.waiting -= 1
        if not line:
            del ring[visitor.caller]

    def ahead_of(self, visitor: Visitor) -> int:
        """How many would be served before a request that `visitor` sends now, if nobody else came."""
        ring = self._ring(visitor.lane)
        own = len(ring.get(visitor.caller, ()))
        before = 0 if visitor.lane == "interactive" else sum(map(len, self._interactive.values()))
        if not own:
            return before + len(ring)
        # Each round serves everybody once, in the order of the ring: those before this caller come once more.
        rounds = own + 1
        for caller, line in ring.items():
            if caller == visitor.caller:
                before += own
                rounds = own
            else:
                before += min(len(line), rounds)
        return before

    def yielding_to(self, visitor: Visitor) -> tuple[Visitor, T] | None:
        """Who gives up its place for `visitor` when all are taken; None if nobody must."""
        if visitor.lane == "interactive" and self._batch:
            return _newest(self._batch, "batch")
        ring = self._ring(visitor.lane)
        own = len(ring.get(visitor.caller, ()))
        if ring and max(map(len, ring.values())) > own + 1:
            return _newest(ring, visitor.lane)
        return None

    def _ring(self, lane: Lane) -> Ring[T]:
        return self._interactive if lane == "interactive" else self._batch


def _newest(ring: Ring[T], lane: Lane) -> tuple[Visitor, T]:
    """The newest item of the caller who has the most."""
    caller = max(ring, key=lambda name: len(ring[name]))
    return Visitor(caller, lane), next(reversed(ring[caller]))
