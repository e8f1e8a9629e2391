"""What is turned away because the machine has no room for it: counted by reason, told once a second."""

import asyncio
import logging
from typing import Final

_log: Final = logging.getLogger(__name__)

TELL_S: Final = 1.0
"""Seconds of a shortage that one log line tells of."""


class Shed:
    """`counts` has what was turned away since the start, every reason there is included."""

    __slots__ = ("_untold", "counts")

    def __init__(self) -> None:
        self.counts = {"descriptors": 0, "memory": 0}
        self._untold = 0

    def for_descriptors(self) -> None:
        """A client had to go because there are too many; `Descriptors` tells the log of it."""
        self.counts["descriptors"] += 1

    def for_memory(self) -> None:
        """A request had to go for want of memory; the log hears of all that came within a second."""
        self.counts["memory"] += 1
        self._untold += 1
        if self._untold == 1:
            asyncio.get_running_loop().call_later(TELL_S, self._tell)

    def _tell(self) -> None:
        count, self._untold = self._untold, 0
        _log.warning("turned away for want of memory: %d within a second; see MANA_LLM_MEMORY_BYTES_MAX", count)
