"""Names of what can answer: a provider and one of its models, and the chains made of them."""

from typing import Final

import msgspec

ALIAS_PREFIX: Final = "mana/"


class Target(msgspec.Struct, frozen=True):
    """One entry of a chain. `label` is `provider/model`, as clients write it and headers show it."""

    provider: str
    model: str
    label: str


class Route(msgspec.Struct, frozen=True):
    """What a requested model resolved to: the entries to try in order; `alias` is None for a direct model.

    `config` is the version of the aliases that resolved it: a request keeps the chain it began with.
    """

    asked: str
    chain: tuple[Target, ...]
    alias: str | None
    config: str


def target_of(provider: str, model: str) -> Target:
    """Name `model` of `provider`."""
    return Target(provider, model, f"{provider}/{model}")
