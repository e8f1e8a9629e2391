"""How much more than what was asked for may be sent upstream."""

from hypothesis import given
from hypothesis import strategies as st

from mana_llm.kit.budget import (
    HEDGE_SHARE,
    HEDGES_SAVED_MAX,
    RETRY_FLOOR,
    RETRY_SHARE,
    HedgeBudget,
    RetryBudgets,
)


def test_retries_are_let_in_up_to_the_floor_when_it_is_quiet():
    """Three retries at a time go to a provider, however few requests are under way."""
    budgets = RetryBudgets(["a", "b"])
    assert [budgets.enter("a", 0, 0) for _ in range(4)] == [True, True, True, False]
    budgets.leave("a")
    assert budgets.enter("a", 0, 0)


def test_retries_are_a_fifth_of_what_is_under_way_when_it_is_busy():
    """Beyond the floor a fifth of the requests at a provider may be retries."""
    budgets = RetryBudgets(["a"])
    assert sum(budgets.enter("a", 100, 1000) for _ in range(50)) == 20


def test_retries_are_held_back_when_all_providers_together_have_enough():
    """A fifth of everything under way bounds the sum, though each provider alone would have room."""
    budgets = RetryBudgets(["a", "b", "c"])
    assert sum(budgets.enter(name, 100, 100) for _ in range(20) for name in "abc") == 20


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 200), st.integers(0, 200)), max_size=300)
)
def test_retries_never_exceed_their_share_when_any_come_and_go(steps):
    """Whatever comes and goes: no name and no sum ever has more than its share of what is under way, or the floor."""
    budgets, running = RetryBudgets("abc"), dict.fromkeys("abc", 0)
    for name, leaves, here, others in steps:
        if leaves and running[name]:
            budgets.leave(name)
            running[name] -= 1
        elif not leaves:
            fits = running[name] < max(RETRY_FLOOR, RETRY_SHARE * here)
            fits = fits and sum(running.values()) < max(RETRY_FLOOR, RETRY_SHARE * (here + others))
            assert budgets.enter(name, here, here + others) is fits
            running[name] += fits


def test_first_hedge_is_there_when_the_gateway_has_just_begun():
    """One hedge is free; the next one is earned by twenty requests."""
    budget = HedgeBudget()
    assert [budget.spend(), budget.spend()] == [True, False]
    # One more than twenty: a twentieth is no round number in binary.
    for _ in range(21):
        budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


@given(st.lists(st.booleans(), max_size=2000))
def test_hedges_never_exceed_their_share_when_any_request_wants_one(wants):
    """After n requests at most n / 20 + 1 were hedged, whichever of them wanted it; what is saved up has a bound."""
    budget, hedges = HedgeBudget(), 0
    for number, hedged in enumerate(wants, 1):
        budget.earn()
        hedges += hedged and budget.spend()
        assert hedges <= number * HEDGE_SHARE + 1.0 + 1e-9
    saved = sum(budget.spend() for _ in range(10))
    assert saved <= HEDGES_SAVED_MAX


def test_hedge_is_paid_back_when_it_asked_nobody():
    """What was paid for a hedge that came to nothing pays for the next; never more is saved than may be."""
    budget = HedgeBudget()
    assert budget.spend()
    budget.refund()
    assert [budget.spend(), budget.spend()] == [True, False]
    for _ in range(10):
        budget.refund()
    assert sum(budget.spend() for _ in range(10)) == HEDGES_SAVED_MAX
