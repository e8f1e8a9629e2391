"""One request's way along its chain: where it is, what was tried, why it was left, and how long it may still take."""

from copy import copy
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
    those that were full will be. `patient` says that the walk may take as long as the gateway itself allows, and
    `deadline_s` when it ends. `entries` gives each entry of the chain once, to whoever of two walks asks for it.
    """

    __slots__ = (
        "attempts",
        "deadline_s",
        "entries",
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
        self.entries = iter(route.chain)

    def rest(self) -> tuple[Target, ...]:
        """The entries that were not taken yet."""
        return tuple(copy(self.entries))

    def leave(self, target: Target, reason: str, detail: str) -> None:
        """Note that an entry was skipped or failed."""
        self.attempts.append({"model": target.label, "reason": reason, "detail": detail})
        self.left = (target, reason)

    def limits_for(self, entry: ProviderEntry, now_s: float) -> Limits:
        """What an attempt that begins now may take; a plain answer's first byte only what somebody asked for."""
        limits, policy = self.limits, self.route.policy
        first_s = policy.ttft_s or (entry.first_s if self.request.stream else limits.first_s)
        left_s = max(self.deadline_s - now_s, MIN_ATTEMPT_S)
        return Limits(limits.connect_s, first_s, policy.idle_s or limits.idle_s, left_s)

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
