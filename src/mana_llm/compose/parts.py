"""The parts of a gateway that are made from settings alone."""

import random
from collections.abc import Mapping

from starlette.middleware.cors import CORSMiddleware

from mana_llm.compose.sources import AliasesFile
from mana_llm.edge.auth import Authenticator
from mana_llm.edge.cross_origin import CrossOrigin
from mana_llm.edge.footprint import allowed_bytes
from mana_llm.kit.outbox import Outbox
from mana_llm.ports import Clock, ProviderEntry
from mana_llm.providers.registry import LOCAL
from mana_llm.routing.admission import Admission, QueuePolicy
from mana_llm.routing.aliases import AliasConfigError, AliasRegistry
from mana_llm.routing.health import HealthPolicy, ProviderHealthCache
from mana_llm.routing.probe import ProbePolicy
from mana_llm.settings import Settings, SettingsError
from mana_llm.upstream.client import Upstream
from mana_llm.upstream.fetch import FetchLimits, ImageFetcher
from mana_llm.upstream.guard import Guard
from mana_llm.upstream.proxy import Proxies, proxies_from


def memory_bytes_max(settings: Settings) -> int:
    """What this worker may have, 0 for no bound."""
    if settings.memory_bytes_max >= 0:
        return settings.share(settings.memory_bytes_max)
    return allowed_bytes(settings.workers)


def proxies(settings: Settings) -> Proxies:
    """The way out. Raises SettingsError where a proxy variable cannot be used."""
    try:
        return proxies_from(dict(settings.proxies))
    except ValueError as error:
        raise SettingsError(str(error)) from error


def upstream(settings: Settings, outbox: Outbox, clock: Clock) -> Upstream:
    """The way to the providers. Raises SettingsError where a proxy variable cannot be used."""
    transport = Upstream(proxies(settings), outbox=outbox)
    transport.now_s = clock.now_s
    return transport


def fetcher(settings: Settings) -> ImageFetcher:
    """Fetches images by URL for providers that cannot."""
    limits = FetchLimits(settings.fetch_bytes_max, settings.fetch_s)
    return ImageFetcher(limits, Guard(private=settings.fetch_private))


def aliases(file: AliasesFile, known: Mapping[str, ProviderEntry], clock: Clock) -> AliasRegistry:
    """The aliases. Raises AliasConfigError, naming the file, if it cannot be read or used."""
    source, text = file.read()
    try:
        return AliasRegistry(text, {name: entry.default_model for name, entry in known.items()}, LOCAL, clock.wall_s)
    except AliasConfigError as error:
        raise AliasConfigError(f"{source}: {error}") from error


def health(settings: Settings, known: Mapping[str, ProviderEntry], clock: Clock) -> ProviderHealthCache:
    """Every provider healthy."""
    policy = HealthPolicy(
        settings.health_failures,
        settings.health_backoff_s,
        lambda: random.uniform(1.0, 1.5),  # noqa: S311
    )
    return ProviderHealthCache(known, policy, clock)


def admission(settings: Settings, known: Mapping[str, ProviderEntry], clock: Clock) -> Admission:
    """Every provider's gate, nobody inside."""
    limits = {name: settings.share(entry.max_concurrent) for name, entry in known.items()}
    return Admission(limits, QueuePolicy(settings.queue_max, settings.queue_s), clock)


def authenticator(settings: Settings) -> Authenticator:
    """Knows every caller's key."""
    return Authenticator((key.reveal() for key in settings.caller_keys), (key.reveal() for key in settings.batch_keys))


def probe_policy(settings: Settings) -> ProbePolicy:
    """When to probe; apart from each other, so that many gateways do not ask as a herd."""
    return ProbePolicy(
        settings.probe_interval_s,
        settings.probe_timeout_s,
        lambda: random.uniform(0.8, 1.2),  # noqa: S311
    )


def cross_origin(settings: Settings) -> CrossOrigin | None:
    """The rules for web pages, if any origin's may call."""
    if not settings.cors_origins:
        return None
    rules = CORSMiddleware(
        _no_application,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=[
            "x-request-id",
            "retry-after",
            "server-timing",
            "x-mana-llm-prompt-truncated",
            *(f"x-mana-llm-{name}" for name in ("resolved", "attempts", "config", "cache", "ignored", "usage")),
        ],
    )
    return CrossOrigin(rules)


async def _no_application(*_: object) -> None:
    """The rules are asked and never called."""
