"""When a request that one provider failed costs something at the next, and what the client is told."""

import pytest

from tests.routing.walk_world import BACKOFF_S, FAILURES_MAX
from tests.routing.walking import Walking, reasons

MANY = 10
FLOOR = 3
CHAIN = ("two/m", "free/m")


@pytest.fixture
def walks():
    world = Walking()
    yield world
    world.close()


def fails_over(walks: Walking) -> int:
    """Ten requests that the first entry fails, one after the other: how many the second is asked for at a time."""
    running = [walks.asks("free/n", "free/m") for _ in range(MANY)]
    for each in running:
        walks.says("free/n", "tool call", each.number)
    return sum(label == "free/m" for label in walks.under_way())


def test_failover_is_free_when_the_next_provider_failed_somebody_else(walks):
    """A forgiven failure of a request that came first to it says nothing about failing over."""
    walks.asks("free/m")
    walks.says("free/m", "500")
    assert fails_over(walks) == MANY


def test_failover_is_charged_when_the_last_one_failed_there(walks):
    """Once a retry has failed at a provider, only so many more may be under way."""
    walks.asks(*CHAIN)
    walks.says("two/m", "500")
    walks.says("free/m", "500")
    assert fails_over(walks) == FLOOR


def test_failover_is_free_again_when_the_next_provider_has_answered(walks):
    """Any success clears it."""
    walks.asks(*CHAIN)
    walks.says("two/m", "500")
    walks.says("free/m", "500")
    walks.asks("free/m")
    walks.says("free/m")
    assert fails_over(walks) == MANY


def test_failover_is_free_again_when_a_probe_was_answered(walks):
    """A probe's success that forgets failures clears it, too."""
    walks.asks(*CHAIN)
    walks.says("two/m", "500")
    walks.says("free/m", "connect")
    walks.health.probe_succeeded("free", walks.health.moment("free"))
    assert fails_over(walks) == MANY


def test_failover_is_free_again_when_the_failure_is_old(walks):
    """An old blip never matters: after the time of a back-off it is forgotten."""
    walks.asks(*CHAIN)
    walks.says("two/m", "500")
    walks.says("free/m", "500")
    walks.loop.now += BACKOFF_S
    assert fails_over(walks) == MANY


def test_failover_is_charged_when_the_next_provider_is_on_trial(walks):
    """A retry that is a trial counts against the budget."""
    for _ in range(FAILURES_MAX):
        walks.asks("two/n")
        walks.says("two/n", "500")
    walks.loop.now += BACKOFF_S
    walks.asks("free/m", "two/m")
    walks.says("free/m", "500")
    assert walks.under_way() == ["two/m"]
    assert walks.router._retries._running["two"] == 1


def test_client_may_come_again_when_only_the_budget_stopped_the_walk(walks):
    """A 503 for want of budget forbids no retry, and names a time."""
    walks.asks(*CHAIN)
    walks.says("two/m", "500")
    walks.says("free/m", "500")
    fails_over(walks)
    held_back = walks.asks("free/n", "free/m")
    walks.says("free/n", "tool call", held_back.number)
    error = walks.error(held_back)
    assert reasons(error) == [("free/n", "ProviderServerError"), ("free/m", "retry-budget")]
    assert error.headers() == {"retry-after": "1"}


def test_client_may_come_again_when_the_last_entry_was_merely_full(walks):
    """Nor does one for want of a place, whoever failed before."""
    walks.asks("one/m", total_s=100.0)
    running = walks.asks("free/m", "one/n", ttft_s=0.5)
    walks.says("free/m", "500")
    walks.passes(0.6)
    error = walks.error(running)
    assert reasons(error) == [("free/m", "ProviderServerError"), ("one/n", "saturated")]
    assert "x-should-retry" not in error.headers()


def test_client_is_told_not_to_come_again_when_everybody_failed(walks):
    """Walked in vain: nobody is left who might have answered."""
    running = walks.asks(*CHAIN)
    walks.says("two/m", "500")
    walks.says("free/m", "500")
    assert walks.error(running).headers() == {"x-should-retry": "false"}
