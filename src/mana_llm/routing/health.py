"""Which providers are worth asking now, learnt from what they did."""

import logging
from collections.abc import Callable, Iterable
from copy import copy
from typing import Final

import msgspec

from mana_llm.kit.breaker import GRANTED, Breaker, State
from mana_llm.ports import Clock
from mana_llm.schema.errors import ProviderError

_log: Final = logging.getLogger(__name__)

PARKED_S: Final = 600.0
"""Seconds that a provider rests after it said that our account is out of quota."""

WISH_S_MAX: Final = 86_400.0
"""The longest Retry-After that is kept: limits are lifted within a day, and a longer one is likely to be an error
that would take the provider out until the gateway is started anew."""

Listener = Callable[[str, bool], None]
"""Told `(provider, healthy)` at every transition."""

RestListener = Callable[[str], None]
"""Told the provider whenever a rest begins or grows longer, a failed trial's too: nobody is admitted there now."""


class HealthPolicy:
    """How much is forgiven. `stretch` gives the back-off's factor, from 1 to 1.5, so that many gateways do not
    return as a herd.
    """

    def __init__(self, failures_max: int, backoff_s: float, stretch: Callable[[], float]) -> None:
        self.failures_max = failures_max
        self.backoff_s = backoff_s
        self.stretch = stretch


class ProviderHealth(msgspec.Struct, frozen=True):
    """One provider's health as operators are shown it.

    `last_error` is the class of the last of the failures in a row, None without any. Instants are Unix seconds:
    `last_success_at` of the last success that counted, a request's or a probe's (None before the first),
    `unhealthy_until` of the end of a back-off that runs (None if none does).
    """

    healthy: bool
    state: State
    consecutive_failures: int
    last_error: str | None
    last_success_at: float | None
    unhealthy_until: float | None


class ProviderHealthCache:
    """The health of every provider; see `kit.breaker` for the states."""

    def __init__(self, providers: Iterable[str], policy: HealthPolicy, clock: Clock) -> None:
        self._breakers = {name: Breaker(policy.failures_max) for name in providers}
        self._policy = policy
        self._clock = clock
        self._now_s = clock.now_s
        self._listeners: list[Listener] = []
        self._rest_listeners: list[RestListener] = []
        self._last_error: dict[str, ProviderError] = {}

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` at every transition; what it raises is logged and harms nobody."""
        self._listeners.append(listener)

    def add_rest_listener(self, listener: RestListener) -> None:
        """Call `listener` whenever a rest begins; it must not raise."""
        self._rest_listeners.append(listener)

    def is_healthy(self, provider: str) -> bool:
        """Whether a request would be admitted now."""
        breaker = self._breakers.get(provider)
        return breaker is None or breaker.admits(self._now_s())

    def succeeded_since(self, provider: str, since_s: float) -> bool:
        """Whether a success was heard of at or after an instant."""
        return self._breakers[provider].succeeded_s >= since_s

    def in_doubt(self, provider: str) -> bool:
        """Whether a request that another provider failed is likely to fail here as well: the provider is out or on
        trial, or the last such request failed here, a short while ago.
        """
        breaker = self._breakers[provider]
        return bool(breaker.until_s) or self._now_s() < breaker.doubted_until_s

    def retry_failed(self, provider: str) -> None:
        """A request that another provider had failed, failed here as well. A success forgets it, and so does time."""
        self._breakers[provider].doubted_until_s = self._now_s() + self._policy.backoff_s

    def take(self, provider: str) -> int:
        """Admit one request: its permit, 0 if it may not go. Each is followed by one `mark_healthy`,
        `mark_unhealthy` or `give_back`.
        """
        breaker = self._breakers[provider]
        return breaker.take(self._now_s()) if breaker.until_s else GRANTED

    def give_back(self, provider: str, permit: int) -> None:
        """The request ended and says nothing about the provider: its client left, or it was refused for cause."""
        self._breakers[provider].back(permit)

    def mark_healthy(self, provider: str, permit: int | None = None) -> None:
        """The provider answered. While it rests, only the trial's own `permit` (or None, for whoever knows) counts:
        an answer that was begun before says nothing about a rest that came after.
        """
        breaker = self._breakers[provider]
        if not breaker.failures:
            # Every request that is answered comes through here.
            breaker.verdicts += 1
            breaker.succeeded_s = self._now_s()
        elif not breaker.until_s or permit in (None, breaker.trial):
            self._recover(provider)

    def content_began(self, provider: str, permit: int) -> bool:
        """A stream's first content has come: says whether that was its verdict. If not, its end will be."""
        if self._breakers[provider].broken:
            return False
        self.mark_healthy(provider, permit)
        return True

    def stream_ended(self, provider: str, permit: int, *, judged: bool) -> None:
        """A stream came to its clean end; `judged` says that its beginning was its verdict."""
        # After a break, that streams end well is news, whenever they began.
        if not judged or self._breakers[provider].broken:
            self.mark_healthy(provider, permit)

    def stream_broke(self, provider: str, error: ProviderError, permit: int) -> None:
        """A stream failed after its content had begun."""
        if error.health != "none":
            self._breakers[provider].broken = True
        self.mark_unhealthy(provider, error, permit)

    def mark_unhealthy(self, provider: str, error: ProviderError, permit: int = GRANTED) -> None:
        """The provider failed with `error`, whose class says how much that weighs."""
        breaker, now_s = self._breakers[provider], self._now_s()
        if error.health == "none":
            breaker.back(permit)
            return
        before_s = breaker.until_s
        if error.health == "parked":
            breaker.park(permit, now_s + PARKED_S)
        elif error.retry_after_s is not None:
            # The provider named the moment itself; up to 5 % later, so that not all come at once.
            wish_s = min(error.retry_after_s, WISH_S_MAX)
            breaker.park(permit, now_s + wish_s * (1 + (self._policy.stretch() - 1) / 10))
        else:
            breaker.fail(permit, now_s, self._backoff_s(), curable=not error.reached)
        self._learn(provider, error, before_s)

    def moment(self, provider: str) -> int:
        """A number for a probe to take at its start and bring along with its verdict."""
        return self._breakers[provider].verdicts

    def probe_succeeded(self, provider: str, seen: int) -> None:
        """A probe that began at the moment `seen` was answered. Nothing comes of it if there is newer news, or if one
        of the failures was more than a connect error or a failed probe.
        """
        breaker = self._breakers[provider]
        if breaker.verdicts == seen and breaker.curable:
            self._recover(provider)

    def probe_failed(self, provider: str, error: ProviderError, seen: int) -> None:
        """A probe that began at the moment `seen` failed: one failure, whatever the error asks for; nothing if there
        is newer news.
        """
        breaker = self._breakers[provider]
        if breaker.verdicts != seen:
            return
        before_s = breaker.until_s
        breaker.fail(GRANTED, self._now_s(), self._backoff_s(), curable=True)
        self._learn(provider, error, before_s)

    def rest(self, provider: str) -> ProviderError:
        """Why a provider rests, as the error that its next caller may be told; it knows how long it still rests."""
        last = copy(self._last_error[provider])
        last.retry_after_s = max(self._breakers[provider].until_s - self._now_s(), 0.0)
        return last

    def problems(self) -> dict[str, str]:
        """The providers that are out now, with the last error's class."""
        now_s = self._now_s()
        return {
            name: self._last_error[name].reason
            for name, breaker in self._breakers.items()
            if breaker.state(now_s) != "healthy"
        }

    def told(self, provider: str) -> ProviderHealth:
        """What there is to tell of a provider, now."""
        breaker, now_s, wall_s = self._breakers[provider], self._now_s(), self._clock.wall_s()
        state, error = breaker.state(now_s), self._last_error.get(provider)
        return ProviderHealth(
            healthy=state == "healthy",
            state=state,
            consecutive_failures=breaker.failures,
            last_error=error.reason if error else None,
            # To the millisecond: two clocks are read one after the other.
            last_success_at=round(wall_s - (now_s - breaker.succeeded_s), 3) if breaker.succeeded_s else None,
            unhealthy_until=round(wall_s + (breaker.until_s - now_s), 3) if state == "tripped" else None,
        )

    def _backoff_s(self) -> float:
        return self._policy.backoff_s * self._policy.stretch()

    def _recover(self, provider: str) -> None:
        breaker = self._breakers[provider]
        was_out = bool(breaker.until_s)
        breaker.succeed(self._now_s())
        self._last_error.pop(provider, None)
        if was_out:
            self._tell(provider, healthy=True)

    def _learn(self, provider: str, error: ProviderError, before_s: float) -> None:
        """Keep the error, and tell if it took the provider out, which rested until `before_s` or did not."""
        # A copy has no traceback: that would keep a whole request alive.
        self._last_error[provider] = copy(error)
        until_s = self._breakers[provider].until_s
        if until_s and not before_s:
            self._tell(provider, healthy=False)
        if until_s > before_s:
            for listener in self._rest_listeners:
                listener(provider)

    def _tell(self, provider: str, *, healthy: bool) -> None:
        for listener in self._listeners:
            try:
                listener(provider, healthy)
            except Exception:  # noqa: BLE001 - what it raises harms nobody else
                _log.exception("a health listener failed")
