"""What operators and orchestrators ask: is it alive, is it ready, who is healthy, what has it counted."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.reply import Receive, Scope, Send, send_json, send_whole
from mana_llm.ports import ProviderEntry
from mana_llm.routing.health import ProviderHealthCache

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Gate(Protocol):
    """One provider's load: requests under way, and how many may be (0: no limit)."""

    @property
    def in_flight(self) -> int: ...

    @property
    def max_concurrent(self) -> int: ...


class Ops(msgspec.Struct, frozen=True):
    """What these routes look at; `gates` has the load by provider, `metrics` gives Prometheus' text."""

    entries: Iterable[ProviderEntry]
    health: ProviderHealthCache
    gates: Mapping[str, Gate]
    lifecycle: Lifecycle
    metrics: Callable[[], bytes]

    async def livez(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 as long as the event loop turns; nothing else matters here."""
        await send_json(send, scope["exchange"], {"status": "alive"})

    async def readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 while new requests are welcome, 503 once the gateway is stopping."""
        self.lifecycle.probes += 1
        if self.lifecycle.stopping:
            await send_json(send, scope["exchange"], {"status": "stopping"}, 503)
        else:
            await send_json(send, scope["exchange"], {"status": "ready"})

    async def healthy(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The configured providers, and how the whole is."""
        await send_json(send, scope["exchange"], self.report())

    async def detailed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All that is known of every provider, those that are not configured too."""
        providers = {entry.name: self._detail(entry) for entry in self.entries}
        await send_json(send, scope["exchange"], {"status": self.report()["status"], "providers": providers})

    async def counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Prometheus' text format."""
        exchange = scope["exchange"]
        exchange.status = 200
        await send_whole(send, exchange, [(b"content-type", METRICS_TYPE)], self.metrics())

    def report(self) -> dict[str, Any]:
        """`{"status": "healthy|degraded|unhealthy", "providers": {name: "healthy" | "unhealthy: <error>"}}`."""
        problems = self.health.problems()
        configured = [entry.name for entry in self.entries if entry.provider]
        providers = {name: f"unhealthy: {problems[name]}" if name in problems else "healthy" for name in configured}
        ill = sum(name in problems for name in configured)
        status = "healthy" if not ill else "unhealthy" if ill == len(configured) else "degraded"
        return {"status": status, "providers": providers}

    def _detail(self, entry: ProviderEntry) -> dict[str, Any]:
        gate, told = self.gates.get(entry.name), self.health.told(entry.name)
        configured = entry.provider is not None
        return {
            "configured": configured,
            **msgspec.structs.asdict(told),
            # Nobody who is not configured would be asked.
            "healthy": configured and told.healthy,
            "in_flight": gate.in_flight if gate else 0,
            # No number means no limit: 0 would read as if nothing went.
            "max_concurrent": (gate.max_concurrent if gate else 0) or None,
        }
