"""What a hedge costs, how it is counted, and where the time of two walks went."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.routing.spans import covered_s
from tests.routing.walk_world import ERRORS
from tests.routing.walking import Walking

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda pair: (pair[0], pair[0] + pair[1])))


@pytest.fixture
def walks():
    world = Walking()
    yield world
    world.close()


@given(SPANS)
def test_time_is_covered_once_when_spans_overlap(spans):
    """However they overlap: as many seconds as there are in which at least one runs."""
    assert covered_s(spans) == sum(any(began <= at < ended for began, ended in spans) for at in range(100))


def test_time_counts_once_when_two_providers_are_waited_for(walks):
    """What two walks wait for at the same time was waited for once: it never adds up to more than the request took."""
    running = walks.asks("two/m", "free/m", hedge_after_s=0.3)
    walks.passes(1.3)
    walks.says("free/m")
    exchange = running.exchange
    assert walks.answer(running).target.label == "free/m"
    assert (exchange.attempts, exchange.queued_s) == (2, 0.0)
    assert exchange.waited_s == pytest.approx(1.3)


def test_time_counts_once_when_one_walk_queues_and_the_other_is_answered(walks):
    """What was queued before the hedge was asked is queueing; from then on the request waits for a provider."""
    walks.asks("one/m", total_s=100.0)
    running = walks.asks("one/n", "free/m", hedge_after_s=0.5)
    walks.passes(1.2)
    walks.says("free/m")
    assert running.exchange.queued_s == pytest.approx(0.5)
    assert running.exchange.waited_s == pytest.approx(0.7)
    walks.says("one/m")


def test_step_is_counted_once_when_an_entry_was_left_before_the_hedge(walks):
    """A hedge is no step away from an entry: what the first walk left is not told a second time."""
    running = walks.asks("gone/m", "two/m", "free/m", hedge_after_s=0.3)
    walks.passes(0.4)
    walks.says("free/m")
    assert walks.answer(running).target.label == "free/m"
    assert walks.fallbacks == [("gone/m", "two/m", "unconfigured")]


def test_nothing_is_paid_when_the_hedge_would_be_unable(walks):
    """Who is known not to do what is needed is nobody to hedge with, where the alias passes such entries by."""
    running = walks.asks("one/m", "two/m", needs=True, hedge_after_s=0.3, on_incapable="skip")
    walks.passes(0.4)
    walks.says("one/m")
    assert walks.answer(running).target.label == "one/m"
    assert (walks.observer.hedges, walks.router._hedges.spend()) == ([], True)


def test_nothing_is_paid_when_the_hedge_could_not_be_written(walks):
    """A hedge that turns out to ask nobody is none: it costs nothing and is not counted."""
    walks.refusals[1, "free/m"] = ERRORS["unable"]()
    running = walks.asks("two/m", "free/m", hedge_after_s=0.3, on_incapable="skip")
    walks.passes(0.4)
    assert walks.under_way() == ["two/m"]
    walks.says("two/m")
    assert walks.answer(running).target.label == "two/m"
    assert (walks.observer.hedges, walks.router._hedges.spend()) == ([], True)


@pytest.mark.parametrize(("label", "result"), [("two/m", "lost"), ("free/m", "won")])
def test_hedge_is_paid_and_counted_once_when_it_was_asked(walks, label, result):
    """Whoever answers: a second call was made."""
    walks.asks("two/m", "free/m", hedge_after_s=0.3)
    walks.passes(0.4)
    walks.says(label)
    assert (walks.observer.hedges, walks.router._hedges.spend()) == ([result], False)
