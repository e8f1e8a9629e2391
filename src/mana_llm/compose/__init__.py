"""Settings to a running application: the only module that chooses implementations."""

import asyncio
import os
import secrets
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from mana_llm import __version__
from mana_llm.compose import parts
from mana_llm.compose.sources import aliases_source, providers_source
from mana_llm.dialects.openai import OpenAI
from mana_llm.edge.app import Endpoint, Gateway, Services
from mana_llm.edge.auth import Authenticator, is_loopback
from mana_llm.edge.chat import Chat, ChatServices
from mana_llm.edge.embeddings import EmbeddingsRoute
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.models import Listing, ModelRoutes
from mana_llm.edge.ops import Ops
from mana_llm.edge.server import Server, make_server
from mana_llm.edge.turns import EdgeLimits
from mana_llm.kit.ids import Ids
from mana_llm.observe.clock import SystemClock
from mana_llm.observe.logs import log_transition
from mana_llm.observe.metrics import Metrics
from mana_llm.ports import Clock, Transport
from mana_llm.providers.registry import entries
from mana_llm.routing.attempt import Ways
from mana_llm.routing.catalogue import Catalogue, Ending, endings
from mana_llm.routing.models import ModelDirectory
from mana_llm.routing.preparation import Preparation
from mana_llm.routing.router import ProviderRouter, WalkLimits
from mana_llm.schema.targets import target_of
from mana_llm.settings import Settings, SettingsError, load
from mana_llm.upstream.client import Upstream

__all__ = ["Application", "aliases_source", "create_app", "make_gateway", "providers_source"]


class Application:
    """Everything that one gateway is made of. `asgi` is what a server runs."""

    def __init__(self, settings: Settings, transport: Transport | None = None) -> None:
        self.settings = settings
        self.clock: Clock = SystemClock()
        self.lifecycle = Lifecycle()
        self.ids = Ids(f"req-{secrets.token_hex(6)}-")
        self.transport = transport or Upstream(parts.proxies(settings))
        self.entries = entries(settings, *providers_source(settings))
        self.aliases = parts.aliases(settings, self.entries)
        self.health = parts.health(settings, self.entries, self.clock)
        self.health.add_listener(log_transition)
        self.models = ModelDirectory(self.transport, self.entries.values(), self.aliases, self.clock)
        self.catalogue = Catalogue(resources.files("mana_llm").joinpath("catalogue.json").read_bytes)
        self.listing = Listing(self.aliases, self.models, self.catalogue, int(self.clock.wall_s()))
        self.metrics = Metrics(__version__, self._healthy, self.models.knows)
        self._background: set[asyncio.Task[None]] = set()
        self.asgi = parts.with_cors(settings, self._gateway())

    def endings(self) -> list[Ending]:
        """The models that an alias or a default names, and that are gone or go soon; alias by alias."""
        named = [(alias.name, target) for alias in self.aliases.aliases for target in alias.chain]
        named += [
            (f"the default of {name}", target_of(name, entry.default_model))
            for name, entry in self.entries.items()
            if entry.provider and entry.default_model
        ]
        return endings(named, self.catalogue, datetime.fromtimestamp(self.clock.wall_s(), UTC).date())

    def _gateway(self) -> Gateway:
        services = Services(
            authenticator=Authenticator(key.reveal() for key in self.settings.caller_keys),
            observer=self.metrics,
            clock=self.clock,
            ids=self.ids,
            start=self._start,
            stop=self._stop,
            lifecycle=self.lifecycle,
        )
        listing = ModelRoutes(self.listing, self.models)
        ops = Ops(tuple(self.entries.values()), self.health, self.lifecycle, self.metrics.text)
        asked = self._chat_services()
        api = {
            "/chat/completions": Endpoint({"POST": Chat(asked)}),
            "/embeddings": Endpoint({"POST": EmbeddingsRoute(asked)}),
            "/models": Endpoint({"GET": listing.listed, "HEAD": listing.listed}),
            "/models/": Endpoint({"GET": listing.one, "HEAD": listing.one}),
        }
        routes = {"/livez": ops.livez, "/readyz": ops.readyz, "/health": ops.healthy, "/metrics": ops.counted}
        return Gateway(services, api, {path: Endpoint({"GET": route, "HEAD": route}) for path, route in routes.items()})

    def _chat_services(self) -> ChatServices:
        settings = self.settings
        return ChatServices(
            dialect=OpenAI(),
            aliases=self.aliases,
            router=self._router(),
            models=self.models,
            clock=self.clock,
            limits=WalkLimits(settings.connect_s, settings.idle_s, settings.total_s, settings.ttft_s or None),
            lifecycle=self.lifecycle,
        )

    def _router(self) -> ProviderRouter:
        preparation = Preparation(self.transport, parts.fetcher(self.settings), self.clock)
        ways = Ways(self.transport, preparation, self.clock)
        return ProviderRouter(ways, self.entries, self.health, self.metrics)

    def _healthy(self) -> dict[str, bool]:
        problems = self.health.problems()
        return {name: name not in problems for name, entry in self.entries.items() if entry.provider}

    async def _start(self) -> None:
        # The providers' lists are fetched while the first requests are already served.
        task = asyncio.get_running_loop().create_task(self.models.refresh())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _stop(self) -> None:
        await self.models.close()
        await self.transport.close()


def create_app(settings: Settings | None = None) -> Any:
    """The gateway as an ASGI application, for servers of your own choosing.

    Without `settings` they are read from the environment and `.env`, as `mana-llm serve` does. Under another server
    the limits on slow clients, the drain, and what address may be listened on without a key are that server's.

    Raises:
        SettingsError: if a setting cannot be used.
    """
    return Application(settings or load(os.environ, Path(".env"))).asgi


def make_gateway(settings: Settings) -> tuple[Application, Server]:
    """The application and the server that serves it.

    Raises:
        SettingsError: if it would listen beyond this machine without a caller's key.
        AliasConfigError: if the aliases file cannot be used.
    """
    if not is_loopback(settings.host) and not settings.caller_keys and not settings.allow_anonymous:
        raise SettingsError(
            f"HOST is {settings.host}, which others can reach, and no caller key is set. Set GPU_API_KEY, or "
            "MANA_LLM_ALLOW_ANONYMOUS=true if everybody may use your providers."
        )
    application = Application(settings)
    limits = EdgeLimits(
        header_s=settings.header_s,
        body_s=settings.body_s,
        stall_s=settings.stall_s,
        keep_alive_s=settings.keep_alive_s,
        body_bytes_max=settings.body_bytes_max,
    )
    return application, make_server(application.asgi, limits, application.ids, application.lifecycle, settings.drain_s)
