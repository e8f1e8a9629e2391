"""Walks that wait for a place: how long, when they go on instead, and what they say when their time is over."""

import pytest

from tests.routing.walk_world import ERRORS, QUEUE_S, TOTAL_S
from tests.routing.walking import Walking, reasons

SHORT_S = 3.0


@pytest.fixture
def walks():
    world = Walking()
    yield world
    world.close()


def rests(walks: Walking, provider: str, for_s: float) -> None:
    """Take a provider out for so long."""
    walks.health._breakers[provider].park(1, walks.loop.now + for_s)
    walks.health._last_error[provider] = ERRORS["429"]()


def test_walk_goes_on_when_a_later_entry_is_well_again(walks):
    """Who waits because nobody else could be asked looks again every `MANA_LLM_QUEUE_S`, and goes on then."""
    walks.asks("one/m")
    rests(walks, "free", 2.5)
    waiting = walks.asks("one/n", "free/m")
    walks.passes(2 * QUEUE_S - 0.1)
    assert walks.under_way() == ["one/m"]
    walks.passes(0.2)
    assert walks.under_way() == ["one/m", "free/m"]
    walks.says("free/m")
    assert walks.answer(waiting).target.label == "free/m"


def test_walk_goes_on_when_a_later_entry_has_a_place_again(walks):
    """A later entry that was full counts as well."""
    walks.asks("one/m")
    walks.asks("two/m")
    walks.asks("two/m")
    waiting = walks.asks("one/n", "two/n")
    walks.passes(0.7)
    walks.says("two/m")
    walks.passes(QUEUE_S)
    walks.says("two/n")
    assert walks.answer(waiting).target.label == "two/n"


def test_place_in_the_queue_is_kept_when_nothing_else_can_be_asked(walks):
    """Whoever looks about in vain is still the first to be served."""
    walks.asks("one/m")
    rests(walks, "free", 100.0)
    first = walks.asks("one/n", "free/m")
    walks.passes(3 * QUEUE_S)
    second = walks.asks("one/n", "free/m")
    walks.says("one/m")
    walks.says("one/n")
    assert walks.answer(first).target.label == "one/n"
    assert not second.task.done()


def test_last_entry_is_waited_for_when_there_is_time(walks):
    """The last entry of a chain is waited for until the walk's time is over."""
    walks.asks("one/m", total_s=100.0)
    waiting = walks.asks("free/m", "one/n")
    walks.says("free/m", "500")
    walks.passes(TOTAL_S - 0.1, 0.05)
    assert not waiting.task.done()
    walks.passes(0.2)
    assert type(walks.error(waiting)).__name__ == "DeadlineError"


def test_token_has_what_the_place_left_when_the_alias_limits_both(walks):
    """What was waited for a place counts against `ttft_s`: the next entry is asked when it is over, not later."""
    walks.asks("one/m")
    walks.asks("one/n", "free/m", stream=True, ttft_s=SHORT_S)
    rests(walks, "free", 1.0)
    walks.passes(2.0)
    walks.says("one/m")
    assert walks.under_way() == ["one/n"]
    walks.passes(SHORT_S - 2.0 - 0.1)
    assert walks.under_way() == ["one/n"]
    walks.passes(0.2)
    assert walks.under_way() == ["free/m"]


def test_entry_is_left_as_saturated_when_its_place_came_too_late(walks):
    """Where the wait for a place has used up `ttft_s`, nothing is begun, and the place is given back."""
    held = walks.asks("one/m", total_s=100.0)
    rests(walks, "free", SHORT_S - 0.5)
    waiting = walks.asks("one/n", "free/m", ttft_s=SHORT_S)
    walks.passes(SHORT_S - 0.004, 0.001)
    walks.says("one/m")
    assert held.task.done()
    assert walks.under_way() == ["free/m"]
    assert walks.admission.gates["one"].in_flight == 0
    walks.says("free/m", "500")
    assert reasons(walks.error(waiting))[0] == ("one/n", "saturated")


def test_stream_has_its_own_time_when_only_the_built_in_limit_holds(walks):
    """The built-in limit on a first token is counted from sending, whatever was waited before."""
    walks.asks("one/m", total_s=100.0)
    walks.asks("one/n", stream=True, total_s=100.0)
    walks.passes(5.0, 0.05)
    walks.says("one/m")
    walks.passes(6.2, 0.05)
    assert walks.under_way() == ["one/n"]
    walks.passes(0.2)
    assert walks.under_way() == []


@pytest.mark.parametrize("spoke", [True, False])
def test_provider_is_judged_by_a_shortened_wait_only_when_it_spoke_to_nobody(walks, spoke):
    """A time-out after a wait for a place is a failure if nobody had an answer in all that time: such a provider is
    silent, and not merely busy.
    """
    walks.asks("one/m", total_s=100.0)
    rests(walks, "free", 100.0)
    walks.asks("one/n", "free/m", ttft_s=SHORT_S)
    walks.passes(1.0)
    walks.says("one/m", "ok" if spoke else "tool call")
    assert walks.under_way() == ["one/n"]
    walks.passes(SHORT_S)
    assert walks.under_way() == []
    assert walks.health.told("one").consecutive_failures == (0 if spoke else 1)


def test_provider_is_not_judged_by_a_shortened_wait_when_a_stream_flowed(walks):
    """A provider whose only place a stream held has spoken all the time."""
    flowing = walks.asks("one/m", stream=True, total_s=100.0)
    walks.says("one/m")
    walks.asks("one/n", "gone/m", ttft_s=SHORT_S)
    walks.passes(2.0)
    walks.reads(flowing)
    walks.passes(SHORT_S)
    assert walks.under_way() == []
    assert walks.health.told("one").consecutive_failures == 0


def trips(walks: Walking, provider: str) -> None:
    """Its probes fail until it is out."""
    for _ in range(3):
        walks.health.probe_failed(provider, ERRORS["500"](), walks.health.moment(provider))
    walks.settle()


def test_everybody_who_waits_goes_on_when_the_provider_trips(walks):
    """Whoever waits for a place of a provider that trips goes on at once, as `cache-unhealthy`."""
    walks.asks("one/m")
    rests(walks, "free", 1.0)
    waiting = [walks.asks("one/n", "free/m") for _ in range(3)]
    walks.passes(1.1)
    walks.health.mark_healthy("free")
    assert walks.under_way() == ["one/m"]
    trips(walks, "one")
    assert walks.under_way() == ["one/m", *["free/m"] * 3]
    assert walks.admission.gates["one"].waiting == 0
    for running in waiting:
        walks.says("free/m", "500", running.number)
        assert reasons(walks.error(running))[0] == ("one/n", "cache-unhealthy")


def test_client_is_told_at_once_when_the_only_provider_trips(walks):
    """With nothing behind it: a 503 that says when to come again, although no place has come free."""
    walks.asks("one/m")
    waiting = walks.asks("one/n")
    trips(walks, "one")
    error = walks.error(waiting)
    assert (error.status, reasons(error)) == (503, [("one/n", "cache-unhealthy")])
    assert error.retry_after_s == pytest.approx(20.0)


def test_everybody_who_waits_goes_on_when_a_back_off_begins_anew(walks):
    """That is no transition, and ends the waiting all the same."""
    held = [walks.asks("two/m", stream=True) for _ in range(2)]
    for _ in held:
        walks.says("two/m")
    trips(walks, "two")
    walks.loop.now += 20.0
    waiting = [walks.asks("two/n") for _ in range(2)]
    walks.health.probe_failed("two", ERRORS["500"](), walks.health.moment("two"))
    walks.settle()
    assert [reasons(walks.error(running)) for running in waiting] == [[("two/n", "cache-unhealthy")]] * 2


def test_every_entry_has_its_row_when_the_walks_time_is_over(walks):
    """A 504 tells the story of the whole chain: what was not reached says `deadline`."""
    running = walks.asks("gone/m", "free/m", "two/m", "two/n", total_s=1.0)
    walks.passes(1.1)
    error = walks.error(running)
    assert (error.status, reasons(error)) == (
        504,
        [
            ("gone/m", "unconfigured"),
            ("free/m", "ProviderTimeoutError"),
            ("two/m", "deadline"),
            ("two/n", "deadline"),
        ],
    )


def test_every_entry_has_one_row_when_time_is_over_for_two_walks(walks):
    """Of a hedged request as well, whoever of the two notices first."""
    running = walks.asks("free/m", "two/m", "two/n", total_s=1.0, hedge_after_s=0.5)
    walks.passes(1.1)
    error = walks.error(running)
    assert sorted(model for model, _ in reasons(error)) == ["free/m", "two/m", "two/n"]
    assert ("two/n", "deadline") in reasons(error)


def test_client_may_come_again_when_its_time_went_into_waiting(walks):
    """A 504 of a walk that asked nobody forbids no retry, and says when a place may be free."""
    walks.asks("one/m", total_s=100.0)
    waiting = walks.asks("one/n", total_s=1.0)
    walks.passes(1.1)
    error = walks.error(waiting)
    assert (error.status, error.in_vain, error.headers()["retry-after"]) == (504, False, "1")


def test_client_is_told_when_to_come_when_time_is_over_and_somebody_rests(walks):
    """A 504 knows the Retry-After of those that rest; what was asked in vain is not to be asked again at once."""
    rests(walks, "two", 7.0)
    running = walks.asks("two/m", "free/m", total_s=1.5)
    walks.passes(1.6)
    error = walks.error(running)
    assert (error.status, error.in_vain, error.headers()["retry-after"]) == (504, True, "7")
