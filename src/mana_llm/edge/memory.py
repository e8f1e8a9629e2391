"""Whether a large body may come in: many at once could take the process over what it may have, and end it.

Each counts from its headers on, with what it will cost, until its request is over: so those that are let in can be
finished, and the account is right again at once when they are gone. What the account does not know (answers, fetched
images, clients that read slowly) is in what the system says that is used, which is looked at besides; the larger of
the two counts. Free memory that the allocator kept is given back before anybody is turned away, and when the last of
many bodies is gone. Where nothing is held, one body is let in whatever the system says: so not all are turned away
for ever.
"""

from collections.abc import Callable
from typing import Final

from mana_llm.edge.footprint import trim, used_bytes

FREE_BODY_BYTES: Final = 64 * 1024
"""Of every body, these are not counted: most requests are no larger."""
COPIES: Final = 3
COPIES_ALONE: Final = 4
"""What bodies take while they are worked on, measured with every provider on 1 to 16 bodies of 2 to 20 MiB: each twice
(as it came, and as it is sent), and while one is translated twice its size more. So 4 for one, 3 each for several.
"""
GROWTH_BYTES: Final = 16 << 20
"""By so much the process grows at work without any large body: 41 MB at the start, up to 50 after load."""
LOOK_S: Final = 0.1
"""Seconds between two looks at what is used, some microseconds each."""
TRIM_S: Final = 1.0
"""Seconds between two attempts to give memory back."""
MANY_BYTES: Final = 32 << 20
"""So much at once is worth giving back what is left of it; it takes some milliseconds."""


class Memory:
    """One process's account: `held` bytes are spoken for, of at most `bound_bytes` with all else (0: no bound)."""

    __slots__ = ("_base", "_bound", "_looked_s", "_measure", "_trim", "_trimmed_s", "_used", "held", "held_most")

    def __init__(self, bound_bytes: int, used: Callable[[], int] = used_bytes, trim: Callable[[], None] = trim) -> None:
        self._bound = bound_bytes
        self._measure = used
        self._trim = trim
        self._base = used() + GROWTH_BYTES if bound_bytes else 0
        self._used = 0
        self._looked_s = self._trimmed_s = float("-inf")
        self.held = self.held_most = 0

    def body_bytes_max(self, wanted: int) -> int:
        """The largest body that can be served, at most `wanted` bytes; what needs no account is always served."""
        if not self._bound:
            return wanted
        return min(wanted, max(FREE_BODY_BYTES, (self._bound - self._base) // COPIES_ALONE))

    def take(self, body_bytes: int, now_s: float) -> bool:
        """Account for so many bytes of a body; False, and nothing is, if there is no room for them."""
        cost = body_bytes * COPIES
        if self._bound and self.held and not self._fits(cost, now_s):
            return False
        self.held += cost
        self.held_most = max(self.held_most, self.held)
        return True

    def give(self, body_bytes: int) -> None:
        """The request that took them is over."""
        self.held -= body_bytes * COPIES

    def rest(self, now_s: float) -> None:
        """To be called now and then: once many bodies are gone, what the allocator kept of them goes, too."""
        if self.held_most >= MANY_BYTES and not self.held and now_s - self._trimmed_s >= TRIM_S:
            self.held_most = 0
            self._give_back(now_s)

    def _fits(self, cost: int, now_s: float) -> bool:
        if self._base + self.held + cost > self._bound:
            return False
        if now_s - self._looked_s >= LOOK_S:
            self._look(now_s)
        if self._used + cost > self._bound and now_s - self._trimmed_s >= TRIM_S:
            self._give_back(now_s)
        return self._used + cost <= self._bound

    def _give_back(self, now_s: float) -> None:
        self._trimmed_s = now_s
        self._trim()
        self._look(now_s)

    def _look(self, now_s: float) -> None:
        self._looked_s, self._used = now_s, self._measure()
