"""The walk's rules that have two users: the router, which acts on them, and the explanation, which only tells.

What is explained is what happens as long as both ask here.
"""

from mana_llm.ports import ProviderEntry
from mana_llm.routing.admission import Gate
from mana_llm.routing.health import ProviderHealthCache
from mana_llm.schema.errors import ProviderCapabilityError, ProviderError
from mana_llm.schema.events import ANONYMOUS, Exchange, Visitor
from mana_llm.schema.targets import Policy


def word_to_go_on(policy: Policy, error: ProviderError) -> str | None:
    """The word under which the walk leaves an entry after `error` and goes on; None if the walk ends with it."""
    if isinstance(error, ProviderCapabilityError) and policy.on_incapable == "skip":
        return "capability"
    return error.reason if error.walks_on or error.reason in policy.fallback_on else None


def is_usable(entry: ProviderEntry, health: ProviderHealthCache, gate: Gate) -> bool:
    """Whether an entry of this provider could be asked at once."""
    return entry.provider is not None and health.is_healthy(entry.name) and not gate.is_full


def visitor_of(exchange: Exchange) -> Visitor:
    """As whom a request waits. Where nobody needs a key, its address stands for its caller."""
    return Visitor(exchange.peer if exchange.caller == ANONYMOUS else exchange.caller, exchange.lane)
