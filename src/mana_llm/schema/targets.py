"""Names of what can answer: a provider and one of its models, and the chains made of them."""

from typing import Final, Literal
from urllib.parse import quote

import msgspec

ALIAS_PREFIX: Final = "mana/"


class Target(msgspec.Struct, frozen=True):
    """One entry of a chain. `label` is `provider/model`, as clients write it; `header` the same as headers show it:
    what is not printable ASCII is percent-encoded.
    """

    provider: str
    model: str
    label: str
    header: bytes = b""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What an alias asks of its walk beside its chain; None where the gateway's own limit holds.

    `ttft_s` bounds the wait for a place and for a first token together, of plain answers too; `idle_s` the silence
    within an answer, `total_s` the whole walk. `hedge_after_s` is when the next entry is asked as well, because the
    first has not spoken. `on_incapable: skip` passes by entries that cannot do what a request needs. `fallback_on`
    names error classes that go on to the next entry although they usually end the walk.
    """

    kind: Literal["chat", "embeddings"] = "chat"
    ttft_s: float | None = None
    idle_s: float | None = None
    total_s: float | None = None
    hedge_after_s: float | None = None
    on_incapable: Literal["error", "skip"] = "error"
    fallback_on: frozenset[str] = frozenset()


DEFAULT_POLICY: Final = Policy()


class Route(msgspec.Struct, frozen=True):
    """What a requested model resolved to: the entries to try in order; `alias` is None for a direct model.

    `config` is the version of the aliases that resolved it: a request keeps the chain it began with.
    """

    asked: str
    chain: tuple[Target, ...]
    alias: str | None
    config: str
    policy: Policy = DEFAULT_POLICY


def target_of(provider: str, model: str) -> Target:
    """Name `model` of `provider`."""
    label = f"{provider}/{model}"
    return Target(provider, model, label, header_text(label))


def header_text(text: str) -> bytes:
    """A model's name as a header value: what is not printable ASCII is percent-encoded."""
    return text.encode() if text.isascii() and text.isprintable() else quote(text, safe="/:.-_@ ").encode()
