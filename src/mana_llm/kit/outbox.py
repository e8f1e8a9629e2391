"""What is written within one turn of the event loop leaves together, when the last who is awake has written.

A write that finds its reader asleep wakes it up, which costs the writer more than the rest of the system call; many
writes in a row find a reader that serves the first. Measured (plain requests at 32 connections, gateway and clients on
a core each): 13 of 100 us per request. A request that is alone is written at once, as it would be without this.

Whoever wakes somebody says so (`expect`), and each wake-up is expected to end in one write. One that does not, or in
several, costs nothing but a turn: what then still waits leaves in the next.
"""

from collections.abc import Callable
from typing import Protocol


class Sender(Protocol):
    """Who has something to write."""

    def flush(self) -> None:
        """Write it; nothing if it has left already or cannot any more. Never raises."""
        ...


class Outbox:
    """The senders of one event loop. `soon` has a callback called in the loop's next turn."""

    __slots__ = ("_expected", "_senders", "_soon")

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        self._soon = soon
        self._senders: list[Sender] = []
        self._expected = 0

    def expect(self) -> None:
        """Somebody was woken up, and is likely to write within this turn."""
        self._expected += 1

    def add(self, sender: Sender) -> None:
        """Have `sender` flushed: now if nobody else is awake, else with the others. It may come twice."""
        self._expected -= 1
        if self._expected <= 0:
            self._expected = 0
            sender.flush()
            if self._senders:
                self._flush()
            return
        if not self._senders:
            self._soon(self._turned)
        self._senders.append(sender)

    def _turned(self) -> None:
        """The turn is over: whoever was expected and has not come writes later, or nothing."""
        if self._senders:
            self._expected = 0
            self._flush()

    def _flush(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.flush()
