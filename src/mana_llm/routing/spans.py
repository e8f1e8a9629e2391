"""Where the time of a request went that two walks worked for at once: what ran beside each other counts once."""

from collections.abc import Iterable

from mana_llm.routing.attempt import Task
from mana_llm.schema.events import Exchange

Span = tuple[float, float]
"""From one instant to another."""


class Spans:
    """What one of two walks did, and when: its `tasks`, and when it `waited` for providers (`connected` is the part
    that went into connecting) and for a place (`queued`).
    """

    __slots__ = ("connected", "queued", "tasks", "waited")

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.connected: list[Span] = []
        self.queued: list[Span] = []
        self.waited: list[Span] = []

    @property
    def asked(self) -> bool:
        """Whether a provider was really asked."""
        return any(task.asked_s for task in self.tasks)


def tell(exchange: Exchange, *both: Spans) -> None:
    """Add the time of two walks to what `exchange` knows.

    While one of them waits for a provider, the request does; it queues only while both do, or the other does nothing.
    """
    waited = [span for spans in both for span in spans.waited]
    waited_s = covered_s(waited)
    exchange.waited_s += waited_s
    exchange.connect_s += covered_s(span for spans in both for span in spans.connected)
    queued = [span for spans in both for span in spans.queued]
    exchange.queued_s += covered_s(waited + queued) - waited_s


def covered_s(spans: Iterable[Span]) -> float:
    """How many seconds are in at least one of the spans."""
    total_s, until_s = 0.0, float("-inf")
    for began_s, ended_s in sorted(spans):
        total_s += max(0.0, ended_s - max(began_s, until_s))
        until_s = max(until_s, ended_s)
    return total_s
