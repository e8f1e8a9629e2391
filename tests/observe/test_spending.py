"""What an answer costs by the published prices."""

import pytest

from mana_llm.observe.spending import Price, Spending, Used
from mana_llm.schema.models import Facts
from mana_llm.schema.usage import Usage, usage_of

PRICED = Facts(input_usd_per_mtok=2.0, cached_usd_per_mtok=0.5, output_usd_per_mtok=8.0)


@pytest.mark.parametrize(
    ("facts", "usage", "cost_usd"),
    [
        (PRICED, usage_of(1000, 100), 0.0028),
        (PRICED, usage_of(1000, 100, cached=400), 0.0022),
        (PRICED, usage_of(1000, 100, cached=9999), 0.0013),
        (PRICED, usage_of(1000, 100, cached=-5, reasoning=-1), 0.0028),
        (PRICED, Usage(prompt_tokens=-7, completion_tokens=-1), 0.0),
        (Facts(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0), usage_of(1000, 100, cached=400), 0.0028),
        (Facts(input_usd_per_mtok=2.0), usage_of(1000, 0), 0.002),
        (Facts(input_usd_per_mtok=2.0), usage_of(1000, 1), None),
        (Facts(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0), usage_of(1000, 1), 0.0),
        (Facts(), usage_of(1000, 100), None),
        (None, usage_of(1000, 100), None),
    ],
)
def test_cost_is_the_published_prices_when_they_are_known(facts, usage, cost_usd):
    """Per million tokens, cached input at its own price, never negative, and nothing where a price is missing."""
    used = Used()
    found = Spending(Price(facts), used, other=False).add(usage)
    assert found == (None if cost_usd is None else pytest.approx(cost_usd))
    assert used.cost_usd == pytest.approx(cost_usd or 0.0)
    assert used.unpriced == (usage.tokens_in + usage.tokens_out if cost_usd is None else 0)


def test_tokens_are_counted_by_kind_when_they_are_told():
    """Cached input is a part of the input, reasoning of the output; sums over all answers."""
    used = Used()
    spending = Spending(Price(PRICED), used, other=False)
    for _ in range(2):
        spending.add(usage_of(10, 5, cached=4, reasoning=3))
    assert (used.tokens_in, used.tokens_out, used.cached, used.reasoning) == (20, 10, 8, 6)
