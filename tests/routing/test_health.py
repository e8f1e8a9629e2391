"""What a provider's health learns, with a clock that the test turns."""

import logging
import random

import pytest

from mana_llm.routing.health import HealthPolicy, ProviderHealth, ProviderHealthCache
from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderConnectError,
    ProviderProtocolError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderTimeoutError,
)

WALL_S = 1_800_000_000.0


class Clock:
    """Time that stands until it is set; the wall clock may be set apart from it."""

    def __init__(self) -> None:
        self.at_s = 1000.0
        self.jump_s = 0.0

    def now_s(self) -> float:
        return self.at_s

    def wall_s(self) -> float:
        return WALL_S + self.at_s + self.jump_s


class Health:
    """A cache of two providers and everything around it."""

    def __init__(self, stretch: float = 1.0, failures_max: int = 2) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, bool]] = []
        self.cache = ProviderHealthCache(("a", "b"), HealthPolicy(failures_max, 60.0, lambda: stretch), self.clock)
        self.cache.add_listener(lambda name, healthy: self.told.append((name, healthy)))

    def fail(self, error=None) -> None:
        self.cache.mark_unhealthy("a", error or ProviderConnectError("no"), self.cache.take("a") or 1)

    def probe_succeeds(self) -> None:
        self.cache.probe_succeeded("a", self.cache.moment("a"))

    def probe_fails(self, error=None) -> None:
        self.cache.probe_failed("a", error or ProviderTimeoutError("late"), self.cache.moment("a"))

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
    """R22 (100 of 100): of a hundred gateways, each with twenty requests that fail, no more than 12 come back within
    the same second.
    """
    chance = random.Random(7)
    ends_s = []
    for _ in range(100):
        health = Health()
        cache = ProviderHealthCache(("a",), HealthPolicy(2, 60.0, lambda: chance.uniform(1.0, 1.5)), health.clock)
        permits = [cache.take("a") for _ in range(20)]
        for permit in permits:
            cache.mark_unhealthy("a", ProviderConnectError("no"), permit)
        ends_s.append(cache.told("a").unhealthy_until)
    assert max(sum(start <= end < start + 1.0 for end in ends_s) for start in ends_s) <= 12
    assert all(WALL_S + 1060.0 <= end <= WALL_S + 1090.0 for end in ends_s)


def test_rest_is_a_day_when_the_provider_asks_for_years():
    """No Retry-After takes a provider out for longer than a day."""
    health = Health()
    health.fail(ProviderRateLimitError("later", retry_after_s=999_999_999.0))
    assert health.cache.told("a").unhealthy_until == WALL_S + 1000.0 + 86_400.0


def test_error_keeps_no_request_alive_when_it_is_remembered():
    """What is kept of a failure has no traceback, whose frames would hold the request."""
    health = Health()
    with pytest.raises(ProviderServerError) as raised:
        raise ProviderServerError("no")
    health.fail(raised.value)
    assert raised.value.__traceback__ is not None
    assert health.cache._last_error["a"].__traceback__ is None


INCURABLE = [
    ProviderRateLimitError("later"),
    ProviderRateLimitError("later", retry_after_s=30.0),
    ProviderQuotaError("no money"),
    ProviderTimeoutError("late"),
    ProviderProtocolError("html"),
    ProviderServerError("500"),
]
LATER_S = [0.0, 61.0, 700.0]
"""Right away, half-open after a plain back-off, half-open after any."""


@pytest.mark.parametrize("later_s", LATER_S)
def test_probe_heals_when_every_failure_was_a_connect_error_or_a_probe(later_s):
    """Its success resets the count and ends the back-off, in the half-open state, too; listeners hear of it."""
    health = Health()
    health.fail()
    health.probe_fails()
    health.fail()
    assert health.told == [("a", False)]
    health.clock.at_s += later_s
    health.probe_succeeds()
    assert health.told == [("a", False), ("a", True)]
    assert health.cache.told("a").state == "healthy"
    assert not health.cache.in_doubt("a")
    assert health.cache.problems() == {}


def test_probe_heals_when_a_connection_did_not_come_in_time():
    """A machine that is switched off swallows connections: once it answers a probe, it is asked again."""
    health = Health()
    late = ProviderTimeoutError("No connection within 5 s.")
    late.reached = False
    health.fail(late)
    health.fail(late)
    health.probe_succeeds()
    assert health.cache.told("a").healthy


@pytest.mark.parametrize("later_s", LATER_S)
@pytest.mark.parametrize("error", INCURABLE, ids=lambda error: error.reason)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_probe_heals_nothing_when_one_failure_was_an_answer_or_a_silence(error, place, later_s):
    """A rate limit, an empty account, a time-out, a broken or a failed answer, first, between or last of several."""
    health = Health()
    errors = [ProviderConnectError("no")] * 2
    errors.insert(place, error)
    for each in errors:
        health.fail(each)
    health.clock.at_s += later_s
    before = health.cache.told("a")
    assert not before.healthy
    health.probe_succeeds()
    assert health.cache.told("a") == before
    assert health.told == [("a", False)]


def test_probe_heals_again_when_a_request_has_succeeded_since():
    """What the failures before the last success were does not count any more."""
    health = Health()
    health.fail(ProviderServerError("500"))
    health.cache.mark_healthy("a", health.cache.take("a"))
    health.fail()
    health.fail()
    health.probe_succeeds()
    assert health.cache.is_healthy("a")


def test_provider_is_out_when_two_probes_failed():
    """A failed probe is one failure, and whatever its error asks for, no more than that."""
    health = Health()
    health.probe_fails(ProviderRateLimitError("later", retry_after_s=3600.0))
    assert health.cache.is_healthy("a")
    assert not health.cache.in_doubt("a")
    health.probe_fails(ProviderQuotaError("no money"))
    assert health.cache.problems() == {"a": "ProviderQuotaError"}
    assert health.out_for_s() == pytest.approx(60.0, abs=0.02)


def test_rest_ends_when_it_should_though_probes_fail():
    """Failed probes do not lengthen a back-off that runs: a list of models may be broken while chat works."""
    health = Health()
    health.fail(ProviderRateLimitError("later", retry_after_s=30.0))
    for _ in range(3):
        health.clock.at_s += 9.0
        health.probe_fails()
    assert health.out_for_s() == pytest.approx(3.0, abs=0.02)


def test_trial_decides_when_a_probe_healed_meanwhile():
    """A probe that heals while the trial runs lets everybody in; the trial's own failure then is the first again."""
    health = Health()
    health.fail()
    health.fail()
    health.clock.at_s += 61.0
    permit = health.cache.take("a")
    assert not health.cache.take("a")
    health.probe_succeeds()
    assert health.cache.take("a")
    health.cache.mark_unhealthy("a", ProviderServerError("500"), permit)
    assert health.cache.is_healthy("a")
    assert health.cache.told("a").consecutive_failures == 1


NEWER = {
    "success": lambda cache: cache.mark_healthy("a", cache.take("a")),
    "failure": lambda cache: cache.mark_unhealthy("a", ProviderServerError("500"), cache.take("a")),
    "park": lambda cache: cache.mark_unhealthy("a", ProviderQuotaError("no money"), cache.take("a")),
}


@pytest.mark.parametrize("newer", NEWER.values(), ids=NEWER)
@pytest.mark.parametrize("succeeds", [True, False])
def test_probe_is_not_heard_when_there_is_newer_news(newer, succeeds):
    """A verdict of a probe that began before the last request's verdict changes nothing, good or bad."""
    health = Health()
    health.fail()
    seen = health.cache.moment("a")
    newer(health.cache)
    before = health.cache.told("a")
    health.clock.at_s += 1.0
    if succeeds:
        health.cache.probe_succeeded("a", seen)
    else:
        health.cache.probe_failed("a", ProviderTimeoutError("late"), seen)
    after = health.cache.told("a")
    assert after == before


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_health_is_the_same_when_the_wall_clock_jumps(jump_s):
    """R24 (1 of 3): an hour forwards or back at every moment changes no state; only the shown instants move along."""
    steady, jumped = Health(), Health()
    for health, by_s in ((steady, 0.0), (jumped, jump_s)):
        states = []
        for turn in range(90):
            health.clock.jump_s = by_s * (turn % 2)
            health.clock.at_s += 10.0
            if turn in (2, 3, 40):
                health.fail(ProviderRateLimitError("later", retry_after_s=120.0) if turn == 40 else None)
            elif permit := health.cache.take("a"):
                health.cache.mark_healthy("a", permit)
            states.append(health.cache.told("a").state)
        health.states = states
    assert jumped.states == steady.states
    assert jumped.told == steady.told
    assert set(steady.states) == {"healthy", "tripped"}


@pytest.mark.parametrize("slew", [500e-6, -500e-6])
@pytest.mark.parametrize("backoff_s", [60.0, 90.0])
def test_health_is_the_same_when_the_clocks_are_slewed(backoff_s, slew):
    """R24 (1 of 3): NTP's largest slew, of both clocks apart, moves a back-off by a thousandth at most."""
    health = Health(stretch=backoff_s / 60.0)
    health.cache.mark_healthy("b", health.cache.take("b"))
    health.fail()
    health.fail()
    began_s = health.clock.at_s
    for true_s, state in ((backoff_s * 0.999, "tripped"), (backoff_s * 1.001, "probing")):
        health.clock.at_s = began_s + true_s * (1 + slew)
        health.clock.jump_s = -2 * true_s * slew
        assert health.cache.told("a").state == state
        assert health.cache.told("b").state == "healthy"
    assert health.told == [("a", False)]


@pytest.mark.parametrize("counts", [True, False], ids=["clock went on", "clock stood"])
def test_health_goes_on_when_the_machine_slept(counts):
    """R24 (1 of 3): after ten minutes of sleep, counted by the clock or not, a healthy provider is healthy, one that
    rested is tried or rests on, and nobody was told of anything.
    """
    health = Health()
    health.cache.mark_healthy("b", health.cache.take("b"))
    health.fail()
    health.fail()
    health.clock.at_s += 600.0 * counts
    health.clock.jump_s += 600.0 * (not counts)
    assert health.cache.told("b").state == "healthy"
    assert health.cache.told("a").state == ("probing" if counts else "tripped")
    assert health.out_for_s() == pytest.approx(0.0 if counts else 60.0, abs=0.02)
    assert health.told == [("a", False)]


def test_everything_is_told_when_an_operator_asks():
    """State, failures, the last error's class, and instants in Unix time."""
    health = Health()
    assert health.cache.told("a") == ProviderHealth(True, "healthy", 0, None, None, None)
    health.cache.mark_healthy("a", health.cache.take("a"))
    at = WALL_S + health.clock.at_s
    health.clock.at_s += 5.0
    health.fail()
    assert health.cache.told("a") == ProviderHealth(True, "healthy", 1, "ProviderConnectError", at, None)
    health.fail(ProviderServerError("500"))
    assert health.cache.told("a") == ProviderHealth(False, "tripped", 2, "ProviderServerError", at, at + 65.0)
    health.clock.at_s += 60.0
    assert health.cache.told("a") == ProviderHealth(False, "probing", 2, "ProviderServerError", at, None)
    health.cache.mark_healthy("a", health.cache.take("a"))
    assert health.cache.told("a") == ProviderHealth(True, "healthy", 0, None, at + 65.0, None)
