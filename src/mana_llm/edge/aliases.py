"""`GET /v1/aliases` and `POST /v1/aliases/reload`: what the aliases are now, and having them read anew."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mana_llm.edge.reply import Receive, Scope, Send, send_json
from mana_llm.ports import ProviderEntry
from mana_llm.routing.aliases import Alias, AliasRegistry
from mana_llm.routing.health import ProviderHealthCache
from mana_llm.routing.reloading import AliasReloader
from mana_llm.schema.errors import RequestError
from mana_llm.schema.targets import Policy


class AliasRoutes(msgspec.Struct, frozen=True):
    """The two routes, and what they look at; `entries` are the providers by name."""

    registry: AliasRegistry
    entries: Mapping[str, ProviderEntry]
    health: ProviderHealthCache
    reloading: AliasReloader

    async def listed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every alias with its chain, and which of its entries would be asked now."""
        table = self.registry.table
        states = {name: self._state(name) for name in self.entries}
        answer = {
            "object": "list",
            "default": table.default,
            "version": table.version,
            "loaded_at": table.loaded_at,
            "data": [_row(alias, states) for alias in table.aliases],
        }
        await send_json(send, scope["exchange"], answer)

    async def reload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the file now, whether it changed or not.

        Raises:
            RequestError: 422 if it cannot be used; the aliases are what they were.
        """
        outcome = await self.reloading.reload()
        if outcome.result == "rejected":
            raise RequestError(outcome.problem, status=422, code="aliases_rejected")
        answer = {"object": "aliases.reload", "result": outcome.result, "version": outcome.version}
        await send_json(send, scope["exchange"], {**answer, "warnings": outcome.warnings})

    def _state(self, provider: str) -> dict[str, bool]:
        """`healthy` is whether a request would be admitted; nobody who is not configured is."""
        configured = self.entries[provider].provider is not None
        return {"configured": configured, "healthy": configured and self.health.is_healthy(provider)}


def _row(alias: Alias, states: Mapping[str, Mapping[str, bool]]) -> dict[str, Any]:
    chain = [{"model": each.label, "provider": each.provider, **states[each.provider]} for each in alias.chain]
    row = {"alias": alias.name, "description": alias.description, "kind": alias.policy.kind, "chain": chain}
    return row | _set(alias.policy)


def _set(policy: Policy) -> dict[str, Any]:
    """What an alias asks for beside the defaults."""
    given = {name: getattr(policy, name) for name in ("ttft_s", "idle_s", "total_s", "hedge_after_s")}
    shown: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if policy.on_incapable != "error":
        shown["on_incapable"] = policy.on_incapable
    if policy.fallback_on:
        shown["fallback_on"] = sorted(policy.fallback_on)
    return shown
