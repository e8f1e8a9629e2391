"""What is known of one client request, from its first byte to its end."""

from typing import Final, Literal

import msgspec

from mana_llm.schema.targets import Target
from mana_llm.schema.usage import Usage

ANONYMOUS: Final = "anonymous"
"""The caller's name where nobody needs a key."""

Lane = Literal["interactive", "batch"]
"""Somebody waits for an interactive answer; work of the batch lane waits until nobody does."""

Cache = Literal["off", "miss", "hit"]
"""Whether a request can share its answer, and whether it got somebody else's."""


class Visitor(msgspec.Struct, frozen=True):
    """Who waits for a place at a provider: callers of one lane take turns."""

    caller: str
    lane: Lane = "interactive"


class Exchange:
    """One client request. `config` is the version of the aliases: the one that resolves it, once that is known.
    Instants are the clock's seconds, 0.0 where the moment never came.

    `overhead_s` is what the gateway added: the time until the answer, or a stream's first content, that was not
    spent on waiting for providers (None if none was asked). `model` is the model as asked, or `other` where no such
    model is known here, so that clients cannot create series. `prompt_cut` says that the provider is known to have
    dropped a part of the prompt. `walks` says that it asks for a model, so that a chain is walked for it. `asked`
    is the model's name as the client gave it, shortened, for the log alone. `lane` is `interactive` or `batch`.
    `queued_s` was spent waiting for a place at a provider, `connect_s` on connecting, `waited_s` on waiting for
    providers (connecting included), those that failed too. `attempts` counts the providers that were really asked.
    `peer` is the client's address. `error` is the word for what went wrong, None if nothing did; it is told of a
    broken stream too. `cost_usd` is worked out at the end, None where a price is not known. `estimated` says that
    nobody counted `usage`: it is a guess. `fresh` says that the client wants an answer that is made for it alone;
    `cache` is `off` where none can be shared, `miss` where it was made for this request, `hit` where an identical
    request's was shared and nothing more was spent.
    """

    __slots__ = (
        "alias",
        "asked",
        "attempts",
        "began_s",
        "cache",
        "caller",
        "config",
        "connect_s",
        "cost_usd",
        "ended_s",
        "error",
        "estimated",
        "first_s",
        "fresh",
        "lane",
        "model",
        "overhead_s",
        "peer",
        "prompt_cut",
        "queued_s",
        "request_id",
        "status",
        "stream",
        "target",
        "usage",
        "waited_s",
        "walks",
    )

    def __init__(self, request_id: str, began_s: float) -> None:
        self.request_id = request_id
        self.began_s = began_s
        self.ended_s = 0.0
        self.first_s = 0.0
        self.overhead_s: float | None = None
        self.status = 0
        self.attempts = 0
        self.model = "other"
        self.caller = ""
        self.config = ""
        self.walks = False
        self.alias: str | None = None
        self.target: Target | None = None
        self.usage: Usage | None = None
        self.estimated = False
        self.prompt_cut = False
        self.asked = ""
        self.stream = False
        self.lane: Lane = "interactive"
        self.queued_s = 0.0
        self.connect_s = 0.0
        self.waited_s = 0.0
        self.peer = ""
        self.error: str | None = None
        self.cost_usd: float | None = None
        self.fresh = False
        self.cache: Cache = "off"
