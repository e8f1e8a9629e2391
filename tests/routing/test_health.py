"""What a provider's health learns, with a clock that the test turns."""

import logging
import random
from itertools import pairwise

import pytest

from mana_llm.routing.health import HealthPolicy, ProviderHealthCache
from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderConnectError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderServerError,
)


class Clock:
    """Time that stands until it is set."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now_s(self) -> float:
        return self.at_s

    def wall_s(self) -> float:
        raise AssertionError("health never looks at wall time")


class Health:
    """A cache of two providers and everything around it."""

    def __init__(self, stretch: float = 1.0, failures_max: int = 2) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, bool]] = []
        self.cache = ProviderHealthCache(("a", "b"), HealthPolicy(failures_max, 60.0, lambda: stretch), self.clock)
        self.cache.add_listener(lambda name, healthy: self.told.append((name, healthy)))

    def fail(self, error=None) -> None:
        self.cache.mark_unhealthy("a", error or ProviderConnectError("no"), self.cache.take("a") or 1)

    def out_for_s(self) -> float:
        """Seconds until the provider would be admitted, found by asking."""
        began_s = self.clock.at_s
        for step in range(200_000):
            self.clock.at_s = began_s + step / 100
            if self.cache.is_healthy("a"):
                break
        found, self.clock.at_s = self.clock.at_s - began_s, began_s
        return found


def test_provider_is_out_when_it_failed_twice():
    """The first failure is forgiven, the second takes it out for the back-off; others are untouched."""
    health = Health()
    health.fail()
    assert health.cache.is_healthy("a")
    health.fail()
    assert not health.cache.is_healthy("a")
    assert health.cache.is_healthy("b")
    assert health.cache.problems() == {"a": "ProviderConnectError"}
    assert health.out_for_s() == pytest.approx(60.0, abs=0.02)


def test_back_off_is_stretched_when_the_policy_says_so():
    """The back-off is 60 s times what the policy draws, from 1 to 1.5."""
    health = Health(stretch=1.5)
    health.fail()
    health.fail()
    assert health.out_for_s() == pytest.approx(90.0, abs=0.02)


@pytest.mark.parametrize("stretch", [1.0, 1.25, 1.5])
def test_back_off_is_the_providers_wish_when_it_has_one(stretch):
    """A Retry-After takes it out at once and is kept to within 5 %, never less."""
    health = Health(stretch)
    health.fail(ProviderRateLimitError("later", retry_after_s=30.0))
    assert 30.0 <= health.out_for_s() <= 30.0 * 1.05 + 0.02


def test_provider_is_parked_when_the_account_is_empty():
    """Out of quota is ten minutes, at once."""
    health = Health()
    health.fail(ProviderQuotaError("no money"))
    assert health.out_for_s() == pytest.approx(600.0, abs=0.02)


def test_health_learns_nothing_when_the_error_is_ours_or_the_clients():
    """A refused key or a failed tool call, however often, takes nobody out and gives a trial's permit back."""
    health = Health()
    for _ in range(9):
        health.fail(ProviderAuthError("key"))
        health.fail(ProviderServerError("tool", health="none"))
    assert health.cache.is_healthy("a")
    health.fail()
    health.fail()
    health.clock.at_s += 61.0
    health.fail(ProviderAuthError("key"))
    assert health.cache.is_healthy("a")
    assert health.cache.problems() == {"a": "ProviderConnectError"}


def test_listeners_hear_transitions_only_when_states_change():
    """One word for going out, one for coming back; none for repeated failures or successes."""
    health = Health()
    for _ in range(4):
        health.fail()
    health.clock.at_s += 61.0
    health.fail()
    health.clock.at_s += 61.0
    assert health.cache.take("a")
    health.cache.mark_healthy("a")
    health.cache.mark_healthy("a")
    assert health.told == [("a", False), ("a", True)]
    assert health.cache.problems() == {}


def test_listener_harms_nobody_when_it_raises(monkeypatch):
    """What a listener raises is logged; the cache and the other listeners go on."""
    health = Health()
    heard = []

    def bad(name: str, healthy: bool) -> None:
        raise RuntimeError(name)

    health.cache.add_listener(bad)
    health.cache.add_listener(lambda _, healthy: heard.append(healthy))
    monkeypatch.setattr(logging.getLogger("mana_llm.routing.health"), "disabled", True)
    health.fail()
    health.fail()
    assert heard == [False]
    assert not health.cache.is_healthy("a")


def test_one_trial_goes_when_many_wait():
    """After the back-off a thousand ask and one may; the others pass by until it has a verdict."""
    health = Health()
    health.fail()
    health.fail()
    health.clock.at_s += 60.1
    permits = [health.cache.take("a") for _ in range(1000)]
    assert sum(map(bool, permits)) == 1
    health.cache.give_back("a", permits[0])
    assert health.cache.take("a")


def test_gateways_return_apart_when_they_share_an_outage():
    """R22 (100 of 100): of a hundred gateways no more than 12 come back within the same second."""
    chance = random.Random(7)
    ends_s = []
    for _ in range(100):
        clock = Clock()
        cache = ProviderHealthCache(("a",), HealthPolicy(2, 60.0, lambda: chance.uniform(1.0, 1.5)), clock)
        for _ in range(2):
            cache.mark_unhealthy("a", ProviderConnectError("no"), cache.take("a"))
        ends_s.append(cache._breakers["a"].until_s)
    ends_s.sort()
    assert max(sum(start <= end < start + 1.0 for end in ends_s) for start in ends_s) <= 12
    assert all(before <= after for before, after in pairwise(ends_s))
