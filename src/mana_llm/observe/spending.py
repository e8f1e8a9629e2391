"""What models used and what that costs by the published prices; per model, never by request."""

from typing import Final

from mana_llm.schema.models import Facts
from mana_llm.schema.usage import Usage

TOKENS_PER_MTOK: Final = 1_000_000


class Price:
    """USD per token. `input_usd` and `output_usd` are None where nobody published them; `discount_usd` is what input
    that the provider had in its cache costs less, 0.0 where no price of its own is published.
    """

    __slots__ = ("discount_usd", "input_usd", "output_usd")

    def __init__(self, facts: Facts | None) -> None:
        self.input_usd = _per_token(facts.input_usd_per_mtok) if facts else None
        self.output_usd = _per_token(facts.output_usd_per_mtok) if facts else None
        cached_usd = _per_token(facts.cached_usd_per_mtok) if facts else None
        self.discount_usd = 0.0
        if self.input_usd is not None and cached_usd is not None:
            self.discount_usd = self.input_usd - cached_usd


class Used:
    """What was used so far, in tokens, and its cost. `unpriced` tokens are not in the cost."""

    __slots__ = ("cached", "cost_usd", "reasoning", "tokens_in", "tokens_out", "unpriced")

    def __init__(self) -> None:
        self.tokens_in = 0
        self.tokens_out = 0
        self.cached = 0
        self.reasoning = 0
        self.unpriced = 0
        self.cost_usd = 0.0


class Spending:
    """One model's price, and where its usage is counted; `other` says that this is shared with unknown models."""

    __slots__ = ("_price", "_used", "other")

    def __init__(self, price: Price, used: Used, *, other: bool) -> None:
        self._price = price
        self._used = used
        self.other = other

    def add(self, usage: Usage) -> float | None:
        """Count one answer's usage; gives its cost in USD, None where a price that it needs is not known."""
        used, price = self._used, self._price
        tokens_in, tokens_out = usage.prompt_tokens or 0, usage.completion_tokens or 0
        if tokens_in < 0 or tokens_out < 0:
            # A broken upstream may say so.
            tokens_in, tokens_out = usage.tokens_in, usage.tokens_out
        used.tokens_in += tokens_in
        used.tokens_out += tokens_out
        told = usage.completion_tokens_details
        if told is not None and told.reasoning_tokens:
            used.reasoning += max(told.reasoning_tokens, 0)
        details = usage.prompt_tokens_details
        cached = (details and details.cached_tokens) or 0
        if cached:
            # A broken upstream may say anything; what was read from a cache is a part of what was read.
            cached = min(max(cached, 0), tokens_in)
            used.cached += cached
        if price.input_usd is None or (price.output_usd is None and tokens_out):
            used.unpriced += tokens_in + tokens_out
            return None
        cost_usd = tokens_in * price.input_usd + tokens_out * (price.output_usd or 0.0) - cached * price.discount_usd
        used.cost_usd += cost_usd
        return cost_usd


def _per_token(usd_per_mtok: float | None) -> float | None:
    return None if usd_per_mtok is None else max(usd_per_mtok, 0.0) / TOKENS_PER_MTOK
