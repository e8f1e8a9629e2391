"""Streams that break after their content has begun, and what their provider's health makes of it."""

import pytest

from mana_llm.schema.errors import ProviderTimeoutError
from tests.routing.walk_world import BACKOFF_S, FAILURES_MAX
from tests.routing.walking import Walking


@pytest.fixture
def walks():
    world = Walking()
    yield world
    world.close()


def tripped(walks: Walking) -> Walking:
    """`free` was taken out by streams that broke, and may be tried now."""
    for _ in range(FAILURES_MAX):
        walks.streams("free/m", "protocol")
    walks.loop.now += BACKOFF_S
    return walks


def test_provider_is_out_when_its_streams_break_one_after_the_other(walks):
    """A break after content is a failure that the next stream's first content does not wipe out."""
    for _ in range(FAILURES_MAX):
        assert walks.health.is_healthy("free")
        walks.streams("free/m", "protocol")
    assert walks.health.told("free").state == "tripped"


def test_break_is_forgotten_when_the_next_stream_ends_well(walks):
    """A whole stream is a success, at its end."""
    walks.streams("free/m", "500")
    running = walks.asks("free/m", stream=True)
    walks.says("free/m")
    assert walks.health.told("free").consecutive_failures == 1
    walks.reads(running)
    assert walks.health.told("free").consecutive_failures == 0


def test_break_is_forgotten_when_a_stream_that_began_before_it_ends_well(walks):
    """Where one of many streams breaks, the others' ends speak for the provider."""
    earlier = walks.asks("free/m", stream=True)
    walks.says("free/m")
    walks.streams("free/m", "500")
    walks.reads(earlier)
    assert walks.health.told("free").consecutive_failures == 0


def test_break_is_forgotten_when_a_plain_answer_comes(walks):
    """A plain answer is a success as ever."""
    walks.streams("free/m", "500")
    walks.asks("free/n")
    walks.says("free/n")
    assert walks.health.told("free").consecutive_failures == 0


def test_first_content_is_a_success_when_no_stream_has_broken(walks):
    """Failures before content are forgotten as soon as content comes."""
    walks.asks("free/n")
    walks.says("free/n", "500")
    running = walks.asks("free/m", stream=True)
    walks.says("free/m")
    assert walks.health.told("free").consecutive_failures == 0
    walks.reads(running)


def test_trial_is_decided_by_the_whole_stream_when_streams_broke(walks):
    """Half-open after such a trip: others pass by until the trial's stream has ended well."""
    running = tripped(walks).asks("free/m", stream=True)
    walks.says("free/m")
    assert walks.health.told("free").state == "probing"
    assert not walks.health.is_healthy("free")
    walks.reads(running)
    assert walks.health.told("free").state == "healthy"


def test_provider_rests_anew_when_the_trials_stream_breaks(walks):
    """The trial's break begins a new back-off, once."""
    running = tripped(walks).asks("free/m", stream=True)
    walks.says("free/m")
    failures = walks.health.told("free").consecutive_failures
    walks.reads(running, "protocol")
    told = walks.health.told("free")
    assert (told.state, told.consecutive_failures) == ("tripped", failures + 1)


def test_permit_is_free_again_when_the_trials_client_leaves_its_stream(walks):
    """A trial's stream that nobody reads to its end decides nothing: the next request is the trial."""
    running = tripped(walks).asks("free/m", stream=True)
    walks.says("free/m")
    walks.answer(running).close()
    assert (walks.health.told("free").state, walks.health.is_healthy("free")) == ("probing", True)


def test_permit_is_free_again_when_the_walks_time_ends_the_trials_stream(walks):
    """The walk's own time says nothing about a provider that was flowing, a trial's included."""
    running = tripped(walks).asks("free/m", stream=True)
    walks.says("free/m")
    stream = walks.answer(running).stream
    walks.loop.now += 100.0
    stream.on_failure(late())
    stream.close()
    assert (walks.health.told("free").state, walks.health.is_healthy("free")) == ("probing", True)


def test_permit_is_free_again_when_the_trial_loses_a_race(walks):
    """A trial's stream that came second is closed unread, and decides nothing."""
    running = tripped(walks).asks("two/m", "free/m", stream=True, hedge_after_s=0.5)
    walks.passes(0.6)
    assert walks.under_way() == ["two/m", "free/m"]
    walks.upstreams.calls[1].outcome.set_result(None)
    walks.upstreams.calls[0].outcome.set_result(None)
    walks.settle()
    assert walks.answer(running).target.label == "two/m"
    walks.reads(running)
    assert (walks.health.told("free").state, walks.health.is_healthy("free")) == ("probing", True)


def late() -> ProviderTimeoutError:
    return ProviderTimeoutError("late")
