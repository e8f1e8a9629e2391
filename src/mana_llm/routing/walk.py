"""One request's way along its chain: where it is, what was tried, why it was left, and how long it may still take."""

from typing import Final

import msgspec

from mana_llm.ports import ProviderEntry
from mana_llm.routing.attempt import Request
from mana_llm.schema.errors import DeadlineError, GatewayError, NoHealthyProviderError, ProviderError
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Route, Target
from mana_llm.schema.wire import Limits

MIN_ATTEMPT_S: Final = 0.001
RATE_LIMITED: Final = 429
RETRY_S: Final = 1.0
"""Seconds after which a client may come again that found every place taken, where nothing better is known."""


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
    those that were full will be. `patient` says that the walk may take as long as the gateway itself allows.
    """

    __slots__ = (
        "_position",
        "attempts",
        "deadline_s",
        "errors",
        "exchange",
        "left",
        "limits",
        "patient",
        "request",
        "resting",
        "route",
        "waits_s",
    )

    def __init__(self, request: Request, route: Route, exchange: Exchange, limits: WalkLimits) -> None:
        self.request = request
        self.route = route
        self.exchange = exchange
        self.limits = limits
        self.deadline_s = 0.0
        self.patient = True
        self.attempts: list[dict[str, str]] = []
        self.errors: list[ProviderError] = []
        self.resting: list[ProviderError] = []
        self.waits_s: list[float] = []
        self.left: tuple[Target, str] | None = None
        self._position = 0

    def until(self, now_s: float, client_s: float | None) -> None:
        """Set the deadline: the alias's or the gateway's own, and the client's if that is sooner."""
        total_s = self.route.policy.total_s or self.limits.total_s
        if client_s is not None and client_s < total_s:
            self.patient = False
            total_s = client_s
        self.deadline_s = now_s + total_s

    def step(self) -> Target | None:
        """The next entry, None if there is none."""
        if self._position == len(self.route.chain):
            return None
        self._position += 1
        return self.route.chain[self._position - 1]

    def rest(self) -> tuple[Target, ...]:
        """The entries that were not stepped on yet."""
        return self.route.chain[self._position :]

    def leave(self, target: Target, reason: str, detail: str) -> None:
        """Note that an entry was skipped or failed."""
        self.attempts.append({"model": target.label, "reason": reason, "detail": detail})
        self.left = (target, reason)

    def first_s(self, entry: ProviderEntry) -> float | None:
        """Seconds that this provider has for its first content; None if only the whole is limited."""
        own_s = entry.first_s if self.request.stream else self.limits.first_s
        return self.route.policy.ttft_s or own_s

    def limits_for(self, entry: ProviderEntry, now_s: float) -> Limits:
        """What an attempt that begins now may take."""
        left_s = max(self.deadline_s - now_s, MIN_ATTEMPT_S)
        return Limits(
            self.limits.connect_s, self.first_s(entry), self.route.policy.idle_s or self.limits.idle_s, left_s
        )

    def late(self) -> DeadlineError:
        """The walk's own time has run out."""
        return DeadlineError(self.route.asked, self.attempts)

    def exhausted(self) -> GatewayError:
        """What the client is told when nobody answered: a direct model's 429 is its own, all else a 503."""
        said = [*self.errors, *self.resting]
        if self.route.alias is None and said and said[0].status == RATE_LIMITED:
            return said[0]
        waits_s = [error.retry_after_s for error in said if error.retry_after_s is not None]
        waits_s += [max(wait_s, RETRY_S) for wait_s in self.waits_s]
        error = NoHealthyProviderError(self.route.asked, self.attempts, min(waits_s) if waits_s else None)
        # Where nobody was even asked, coming again multiplies nothing.
        error.in_vain = not self.waits_s or bool(self.errors)
        return error
