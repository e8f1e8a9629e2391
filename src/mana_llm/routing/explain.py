"""What the walk would do with a chain now, entry by entry, without asking any model."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from mana_llm.ports import Provider, ProviderEntry
from mana_llm.routing.needs import needs_of
from mana_llm.routing.preparation import Preparation
from mana_llm.routing.router import Guards
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import ProviderCapabilityError, ProviderError
from mana_llm.schema.targets import Route, Target
from mana_llm.schema.wire import Limits

ASK_LIMITS: Final = Limits(connect_s=2.0, first_s=3.0, idle_s=3.0, total_s=3.0)
"""What asking a provider for facts about its model may take here."""


class Explained(msgspec.Struct, frozen=True):
    """One entry: `kept` would be asked, `skipped` would be passed by, `ends` would end the walk with an error.

    `reason` is the word that attempts would have, None for what is kept.
    """

    model: str
    provider: str
    decision: Literal["kept", "skipped", "ends"]
    reason: str | None = None
    detail: str | None = None


class Explainer:
    """Looks with the walk's own eyes, and takes neither permit nor place."""

    def __init__(self, entries: Mapping[str, ProviderEntry], guards: Guards, preparation: Preparation) -> None:
        self._entries = entries
        self._guards = guards
        self._preparation = preparation

    async def explain(self, route: Route, request: ChatRequest | None) -> list[Explained]:
        """Every entry of the chain for a request like this one; None where only the state of things is asked."""
        return [await self._entry(route, target, request) for target in route.chain]

    async def _entry(self, route: Route, target: Target, request: ChatRequest | None) -> Explained:
        why_not = self._state(target)
        skips = route.policy.on_incapable == "skip"
        if not why_not and request and skips:
            lack = self._guards.catalogue.lack(target, needs_of(request))
            why_not = ("capability", f"it is not known to do {lack}") if lack else None
        provider = self._entries[target.provider].provider
        if why_not or request is None or provider is None:
            return _explained(target, "skipped" if why_not else "kept", why_not)
        try:
            await self._try(provider, target, request)
        except ProviderCapabilityError as error:
            reason = "capability" if skips else error.reason
            return _explained(target, "skipped" if skips else "ends", (reason, error.detail))
        except ProviderError as error:
            return _explained(target, "skipped" if error.walks_on else "ends", (error.reason, error.detail))
        return _explained(target, "kept", None)

    def _state(self, target: Target) -> tuple[str, str] | None:
        """Why a provider would be passed by whatever is asked of it."""
        entry, health = self._entries[target.provider], self._guards.health
        if entry.provider is None:
            return "unconfigured", entry.hint
        if not health.is_healthy(entry.name):
            last = health.rest(entry.name)
            return "cache-unhealthy", f"resting after {last.reason}, for {last.retry_after_s or 0.0:.0f} s more"
        gate = self._guards.admission.gates[entry.name]
        if gate.max_concurrent and gate.in_flight >= gate.max_concurrent:
            return "saturated", f"all {gate.max_concurrent} places are taken, and {gate.waiting} requests wait"
        return None

    async def _try(self, provider: Provider, target: Target, request: ChatRequest) -> None:
        """Everything that happens before a call is sent. Raises the ProviderError that it comes to."""
        await self._preparation.prepare(provider, request, target, ASK_LIMITS)
        provider.encode_chat(request, target.model)


def _explained(
    target: Target, decision: Literal["kept", "skipped", "ends"], why_not: tuple[str, str] | None
) -> Explained:
    reason, detail = why_not or (None, None)
    return Explained(target.label, target.provider, decision, reason, detail)
