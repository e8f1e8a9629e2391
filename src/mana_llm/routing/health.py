"""Which providers are worth asking now, learnt from what they did."""

import logging
from collections.abc import Callable, Iterable
from copy import copy
from typing import Final

from mana_llm.kit.breaker import GRANTED, Breaker
from mana_llm.ports import Clock
from mana_llm.schema.errors import ProviderError

_log: Final = logging.getLogger(__name__)

PARKED_S: Final = 600.0
"""Seconds that a provider rests after it said that our account is out of quota."""

Listener = Callable[[str, bool], None]
"""Told `(provider, healthy)` at every transition."""


class HealthPolicy:
    """How much is forgiven. `stretch` gives the back-off's factor, from 1 to 1.5, so that many gateways do not
    return as a herd.
    """

    def __init__(self, failures_max: int, backoff_s: float, stretch: Callable[[], float]) -> None:
        self.failures_max = failures_max
        self.backoff_s = backoff_s
        self.stretch = stretch


class ProviderHealthCache:
    """The health of every provider; see `kit.breaker` for the states."""

    def __init__(self, providers: Iterable[str], policy: HealthPolicy, clock: Clock) -> None:
        self._breakers = {name: Breaker(policy.failures_max) for name in providers}
        self._policy = policy
        self._now_s = clock.now_s
        self._listeners: list[Listener] = []
        self._last_error: dict[str, ProviderError] = {}

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` at every transition; what it raises is logged and harms nobody."""
        self._listeners.append(listener)

    def is_healthy(self, provider: str) -> bool:
        """Whether a request would be admitted now."""
        breaker = self._breakers.get(provider)
        return breaker is None or breaker.admits(self._now_s())

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
        if not breaker.failures or (breaker.until_s and permit not in (None, breaker.trial)):
            return
        was_out = bool(breaker.until_s)
        breaker.succeed()
        self._last_error.pop(provider, None)
        if was_out:
            self._tell(provider, healthy=True)

    def mark_unhealthy(self, provider: str, error: ProviderError, permit: int = GRANTED) -> None:
        """The provider failed with `error`, whose class says how much that weighs."""
        breaker, now_s = self._breakers[provider], self._now_s()
        if error.health == "none":
            breaker.back(permit)
            return
        was_out = bool(breaker.until_s)
        self._last_error[provider] = error
        if error.health == "parked":
            breaker.park(permit, now_s + PARKED_S)
        elif error.retry_after_s is not None:
            # The provider named the moment itself; up to 5 % later, so that not all come at once.
            breaker.park(permit, now_s + error.retry_after_s * (1 + (self._policy.stretch() - 1) / 10))
        else:
            breaker.fail(permit, now_s, self._policy.backoff_s * self._policy.stretch())
        if breaker.until_s and not was_out:
            self._tell(provider, healthy=False)

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

    def _tell(self, provider: str, *, healthy: bool) -> None:
        for listener in self._listeners:
            try:
                listener(provider, healthy)
            except Exception:  # noqa: BLE001 - what it raises harms nobody else
                _log.exception("a health listener failed")
