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
from mana_llm.compose.routes import gateway_of
from mana_llm.compose.sources import AliasesFile, aliases_source, providers_source
from mana_llm.edge.auth import is_loopback
from mana_llm.edge.common import Common, EdgeLimits
from mana_llm.edge.doorkeeper import Doorkeeper
from mana_llm.edge.lifecycle import Drain, Lifecycle
from mana_llm.edge.models import Listing
from mana_llm.edge.server import Server, make_server
from mana_llm.kit.ids import Ids
from mana_llm.kit.outbox import Outbox
from mana_llm.observe.access import AccessLog
from mana_llm.observe.clock import SystemClock
from mana_llm.observe.lines import DRAIN_S, LineWriter
from mana_llm.observe.logs import log_transition, stderr_lines
from mana_llm.observe.metrics import Metrics, Sources
from mana_llm.ports import Clock, Observer, Transport
from mana_llm.providers.registry import entries
from mana_llm.routing.admission import Gate
from mana_llm.routing.catalogue import Catalogue, Ending, endings
from mana_llm.routing.models import ModelDirectory
from mana_llm.routing.probe import HealthProbe
from mana_llm.routing.reloading import AliasReloader
from mana_llm.schema.targets import target_of
from mana_llm.settings import Settings, SettingsError, load
from mana_llm.upstream.client import soon

__all__ = ["Application", "aliases_source", "create_app", "make_gateway", "providers_source"]


class Application:
    """Everything that one gateway is made of. `asgi` is what a server runs; `lines` takes its access log."""

    def __init__(
        self,
        settings: Settings,
        transport: Transport | None = None,
        lines: LineWriter | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.lines = lines
        self.clock: Clock = clock or SystemClock()
        self.lifecycle = Lifecycle()
        self.ids = Ids(f"req-{secrets.token_hex(6)}-")
        outbox = Outbox(soon)
        self.transport = transport or parts.upstream(settings, outbox, self.clock)
        self.entries = entries(settings, *providers_source(settings))
        aliases_file = AliasesFile(settings)
        self.aliases = parts.aliases(aliases_file, self.entries, self.clock)
        self.health = parts.health(settings, self.entries, self.clock)
        self.health.add_listener(log_transition)
        self.admission = parts.admission(settings, self.entries, self.clock)
        self.probe = HealthProbe(self.transport, self.entries.values(), self.health, parts.probe_policy(settings))
        self.models = ModelDirectory(self.transport, self.entries.values(), self.aliases, self.clock)
        self.catalogue = Catalogue(resources.files("mana_llm").joinpath("catalogue.json").read_bytes)
        self.listing = Listing(self.aliases, self.models, self.catalogue)
        self.metrics = Metrics(
            Sources(
                version=__version__,
                healthy=self._healthy,
                known=self.models.knows,
                facts=self.catalogue.facts,
                gates=self._gates,
                dropped=lambda: lines.dropped if lines else 0,
                shed=lambda: self.lifecycle.shed.counts,
            )
        )
        self.access_log = AccessLog(self.metrics, lines, self.clock.wall_s) if lines and settings.access_log else None
        self.reloading = AliasReloader(self.aliases, aliases_file, self.metrics, self._warnings)
        self._background: set[asyncio.Task[None]] = set()
        doorkeeper = Doorkeeper(self.observer, self.clock, self.ids, self.aliases)
        self.common = Common(doorkeeper, self.lifecycle, outbox)
        self.asgi = gateway_of(self)

    @property
    def observer(self) -> Observer:
        """Who is told of every client's request."""
        return self.access_log or self.metrics

    def endings(self) -> list[Ending]:
        """The models that an alias or a default names, and that are gone or go soon; alias by alias."""
        named = [(alias.name, target) for alias in self.aliases.aliases for target in alias.chain]
        named += [
            (f"the default of {name}", target_of(name, entry.default_model))
            for name, entry in self.entries.items()
            if entry.provider and entry.default_model
        ]
        return endings(named, self.catalogue, datetime.fromtimestamp(self.clock.wall_s(), UTC).date())

    def _warnings(self) -> list[str]:
        return [str(ending) for ending in self.endings()]

    def _healthy(self) -> dict[str, bool]:
        problems = self.health.problems()
        return {name: name not in problems for name, entry in self.entries.items() if entry.provider}

    def _gates(self) -> dict[str, Gate]:
        return {name: gate for name, gate in self.admission.gates.items() if self.entries[name].provider}

    async def start(self) -> None:
        """Begin what runs beside the requests."""
        # The providers' lists are fetched while the first requests are already served.
        task = asyncio.get_running_loop().create_task(self.models.refresh())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        self.probe.start()
        self.reloading.start()

    async def stop(self) -> None:
        """End it, and let go of everything that is open."""
        await self.reloading.close()
        await self.probe.close()
        await self.models.close()
        await self.transport.close()
        if self.access_log:
            self.access_log.close()
        if self.lines:
            await asyncio.to_thread(self.lines.drain, DRAIN_S)


def create_app(settings: Settings | None = None) -> Any:
    """The gateway as an ASGI application, for servers of your own choosing.

    Without `settings` they are read from the environment and `.env`, as `mana-llm serve` does. Under another server
    the limits on slow clients, the drain, and what address may be listened on without a key are that server's.

    Raises:
        SettingsError: if a setting cannot be used.
    """
    return Application(settings or load(os.environ, Path(".env")), lines=stderr_lines(SystemClock.wall_s)).asgi


def make_gateway(
    settings: Settings, lines: LineWriter | None = None, clock: Clock | None = None
) -> tuple[Application, Server]:
    """The application and the server that serves it; its access log goes to `lines`, its time is `clock`'s.

    Raises:
        SettingsError: if it would listen beyond this machine without a caller's key.
        AliasConfigError: if the aliases file cannot be used.
    """
    if not is_loopback(settings.host) and not settings.caller_keys and not settings.allow_anonymous:
        raise SettingsError(
            f"HOST is {settings.host}, which others can reach, and no caller key is set. Set GPU_API_KEY, or "
            "MANA_LLM_ALLOW_ANONYMOUS=true if everybody may use your providers."
        )
    application = Application(settings, lines=lines, clock=clock)
    limits = EdgeLimits(
        header_s=settings.header_s,
        body_s=settings.body_s,
        stall_s=settings.stall_s,
        keep_alive_s=settings.keep_alive_s,
        body_bytes_max=settings.body_bytes_max,
        memory_bytes_max=parts.memory_bytes_max(settings),
    )
    drain = Drain(settings.drain_accept_s, settings.drain_s)
    server = make_server(application.asgi, limits, application.common, drain)
    server.on_hangup = application.reloading.ask
    return application, server
