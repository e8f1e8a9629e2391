"""One request's way along its chain: where it is, what was tried, why it was left, and how long it may still take."""

from copy import copy
from typing import Final

import msgspec

from mana_llm.ports import ProviderEntry
from mana_llm.routing.attempt import Request, Task
from mana_llm.routing.spans import Spans
from mana_llm.schema.errors import DeadlineError, GatewayError, NoHealthyProviderError, ProviderError
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Route, Target
from mana_llm.schema.wire import Limits

MIN_ATTEMPT_S: Final = 0.001
RATE_LIMITED: Final = 429
RETRY_S: Final = 1.0
"""Seconds after which a client may come again that found every place taken, or retries held back, where nothing better
is known.
"""


class WalkLimits(msgspec.Struct, frozen=True):
    """Seconds: `total_s` for the whole walk, the rest per attempt; `first_s` is None where only a stream has a limit
    on its first content, and that its provider's own (the head of a plain answer comes with the whole body).
    """

    connect_s: float
    idle_s: float
    total_s: float
    first_s: float | None


class Walk:
    """`errors` are of the entries that were tried, `resting` of those that rest after failures, `waits_s` how long
    those that were full, or held retries back, will be. `patient` says that the walk may take as long as the gateway
    itself allows, `deadline_s` when it ends, and `more_s` how much longer a stream may flow that began before.
    `entries` gives each entry of the chain once, to whoever of two walks asks for it.

    A hedge is a twin: all of this belongs to both. What is each one's own is `left`, the entry that it left last and
    why; `placed_s`, how long it waited for its place at the entry at hand; `spans`, None where there is no twin.
    """

    __slots__ = (
        "attempts",
        "deadline_s",
        "entries",
        "errors",
        "exchange",
        "left",
        "limits",
        "more_s",
        "patient",
        "placed_s",
        "request",
        "resting",
        "route",
        "spans",
        "waits_s",
    )

    def __init__(self, request: Request, route: Route, exchange: Exchange, limits: WalkLimits) -> None:
        self.request = request
        self.route = route
        self.exchange = exchange
        self.limits = limits
        self.deadline_s = 0.0
        self.more_s = 0.0
        self.patient = True
        self.attempts: list[dict[str, str]] = []
        self.errors: list[ProviderError] = []
        self.resting: list[ProviderError] = []
        self.waits_s: list[float] = []
        self.left: tuple[Target, str] | None = None
        self.placed_s = 0.0
        self.spans: Spans | None = None
        self.entries = iter(route.chain)

    def twin(self, spans: Spans) -> "Walk":
        """A second walk along the same chain, for the same request."""
        twin = copy(self)
        twin.left, twin.placed_s, twin.spans = None, 0.0, spans
        return twin

    def rest(self) -> tuple[Target, ...]:
        """The entries that were not taken yet."""
        return tuple(copy(self.entries))

    def leave(self, target: Target, reason: str, detail: str) -> None:
        """Note that an entry was skipped or failed."""
        self.attempts.append({"model": target.label, "reason": reason, "detail": detail})
        self.left = (target, reason)
        self.placed_s = 0.0

    @property
    def first_s(self) -> float | None:
        """What somebody asked for as the limit on an entry's first content, the wait for a place included."""
        return self.route.policy.ttft_s or self.limits.first_s

    def limits_for(self, entry: ProviderEntry, now_s: float) -> Limits:
        """What an attempt that begins now may take; a plain answer's first byte only what somebody asked for."""
        limits, policy = self.limits, self.route.policy
        first_s = policy.ttft_s or (entry.first_s if self.request.stream else limits.first_s)
        if self.placed_s and self.first_s:
            first_s = max(self.first_s - self.placed_s, MIN_ATTEMPT_S)
        left_s = max(self.deadline_s - now_s, MIN_ATTEMPT_S)
        return Limits(limits.connect_s, first_s, policy.idle_s or limits.idle_s, left_s, self.more_s)

    def waited(self, task: Task, waited_s: float) -> None:
        """Account for `waited_s` seconds that a provider was waited for."""
        exchange = self.exchange
        exchange.attempts += 1
        if self.spans is None:
            exchange.waited_s += waited_s
            exchange.connect_s += task.connect_s
        else:
            self.spans.waited.append((task.asked_s, task.asked_s + waited_s))
            self.spans.connected.append((task.asked_s, task.asked_s + min(task.connect_s, waited_s)))

    def queued(self, began_s: float, now_s: float) -> None:
        """Account for a wait for a place."""
        if self.spans is None:
            self.exchange.queued_s += now_s - began_s
        else:
            self.spans.queued.append((began_s, now_s))

    def late(self) -> DeadlineError:
        """The walk's own time has run out. Every entry has a row, the story of what came to nothing for that."""
        told, ahead = {row["model"] for row in self.attempts}, self.rest()
        # Another list: the twin may still have something to tell.
        rows = list(self.attempts)
        for target in self.route.chain:
            if target.label not in told:
                why = "it was reached" if target in ahead else "it answered"
                detail = f"the request's time ran out before {why}"
                rows.append({"model": target.label, "reason": "deadline", "detail": detail})
        error = DeadlineError(self.route.asked, rows, self._retry_after_s())
        error.in_vain = self._in_vain() and self.exchange.attempts > 0
        return error

    def exhausted(self) -> GatewayError:
        """What the client is told when nobody answered: a direct model's 429 is its own, all else a 503."""
        said = [*self.errors, *self.resting]
        if self.route.alias is None and said and said[0].status == RATE_LIMITED:
            return said[0]
        error = NoHealthyProviderError(self.route.asked, self.attempts, self._retry_after_s())
        error.in_vain = self._in_vain()
        return error

    def _retry_after_s(self) -> float | None:
        """When the first of those that rest or were full may answer; None if nothing is known."""
        said = [*self.errors, *self.resting]
        waits_s = [error.retry_after_s for error in said if error.retry_after_s is not None]
        waits_s += [max(wait_s, RETRY_S) for wait_s in self.waits_s]
        return min(waits_s, default=None)

    def _in_vain(self) -> bool:
        """Whether everybody who could have answered was asked: an entry that was full, or had enough retries, may."""
        return not self.waits_s
