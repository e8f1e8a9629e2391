"""Settings to a running application: the only module that chooses implementations."""

import asyncio
import random
import secrets
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware

from mana_llm import __version__
from mana_llm.dialects.openai import OpenAI
from mana_llm.edge.app import Endpoint, Gateway, Services
from mana_llm.edge.auth import Authenticator, is_loopback
from mana_llm.edge.chat import Chat, ChatServices
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.models import ModelRoutes
from mana_llm.edge.ops import Ops
from mana_llm.edge.server import Server, make_server
from mana_llm.edge.turns import EdgeLimits
from mana_llm.kit.ids import Ids
from mana_llm.observe.clock import SystemClock
from mana_llm.observe.metrics import Metrics
from mana_llm.ports import ProviderEntry, Transport
from mana_llm.providers.registry import LOCAL, entries
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.routing.health import HealthPolicy, ProviderHealthCache
from mana_llm.routing.models import ModelDirectory
from mana_llm.routing.router import ProviderRouter, WalkLimits
from mana_llm.settings import Settings, SettingsError
from mana_llm.upstream.client import Upstream
from mana_llm.upstream.proxy import Proxies, proxies_from

WORKING_COPY: Final = Path("aliases.yaml")


class Application:
    """Everything that one gateway is made of. `asgi` is what a server runs."""

    def __init__(self, settings: Settings, transport: Transport | None = None) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.lifecycle = Lifecycle()
        self.ids = Ids(f"req-{secrets.token_hex(6)}-")
        self.transport = transport or Upstream(_proxies(settings))
        self.entries = entries(settings)
        self.aliases = _aliases(settings, self.entries)
        self.health = _health(settings, self.entries, self.clock)
        self.models = ModelDirectory(self.transport, self.entries.values(), self.aliases, self.clock)
        self.metrics = Metrics(__version__, self._healthy, self.models.knows)
        self._background: set[asyncio.Task[None]] = set()
        self.asgi = _with_cors(settings, self._gateway())

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
        listing = ModelRoutes(self.aliases, self.models, int(self.clock.wall_s()))
        ops = Ops(tuple(self.entries.values()), self.health, self.lifecycle, self.metrics.text)
        api = {
            "/chat/completions": Endpoint({"POST": Chat(self._chat_services())}),
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
            router=ProviderRouter(self.transport, self.entries, self.health, self.metrics, self.clock),
            models=self.models,
            clock=self.clock,
            limits=WalkLimits(settings.connect_s, settings.idle_s, settings.total_s, settings.ttft_s or None),
            lifecycle=self.lifecycle,
        )

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

    Under another server than `mana-llm serve` the limits on slow clients and the drain are that server's.
    """
    return Application(settings or Settings()).asgi


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


def aliases_source(settings: Settings) -> tuple[str, str]:
    """Where the aliases come from, in words, and their text.

    Raises:
        SettingsError: if ALIASES_PATH names a file that cannot be read.
    """
    path = Path(settings.aliases_path) if settings.aliases_path else WORKING_COPY
    if not settings.aliases_path and not path.is_file():
        shipped = resources.files("mana_llm").joinpath("aliases.yaml")
        return "the shipped aliases.yaml", shipped.read_text(encoding="utf-8")
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError(f"ALIASES_PATH: {path} cannot be read ({reason}).") from error


def _proxies(settings: Settings) -> Proxies:
    try:
        return proxies_from(dict(settings.proxies))
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _aliases(settings: Settings, known: Mapping[str, ProviderEntry]) -> AliasRegistry:
    _, text = aliases_source(settings)
    return AliasRegistry(text, {name: entry.default_model for name, entry in known.items()}, LOCAL)


def _health(settings: Settings, known: Mapping[str, ProviderEntry], clock: SystemClock) -> ProviderHealthCache:
    policy = HealthPolicy(
        settings.health_failures,
        settings.health_backoff_s,
        lambda: random.uniform(1.0, 1.5),  # noqa: S311
    )
    return ProviderHealthCache(known, policy, clock)


def _with_cors(settings: Settings, gateway: Gateway) -> Any:
    if not settings.cors_origins:
        return gateway
    return CORSMiddleware(
        gateway,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=[
            "x-request-id",
            "retry-after",
            *(f"x-mana-llm-{name}" for name in ("resolved", "attempts", "config", "cache", "ignored")),
        ],
    )
