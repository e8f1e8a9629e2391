"""The parts of a gateway that are made from settings alone."""

import random
from collections.abc import Mapping
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from mana_llm.compose.sources import aliases_source
from mana_llm.edge.app import Gateway
from mana_llm.ports import Clock, ProviderEntry
from mana_llm.providers.registry import LOCAL
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.routing.health import HealthPolicy, ProviderHealthCache
from mana_llm.settings import Settings, SettingsError
from mana_llm.upstream.fetch import FetchLimits, ImageFetcher
from mana_llm.upstream.guard import Guard
from mana_llm.upstream.proxy import Proxies, proxies_from


def proxies(settings: Settings) -> Proxies:
    """The way out. Raises SettingsError where a proxy variable cannot be used."""
    try:
        return proxies_from(dict(settings.proxies))
    except ValueError as error:
        raise SettingsError(str(error)) from error


def fetcher(settings: Settings) -> ImageFetcher:
    """Fetches images by URL for providers that cannot."""
    limits = FetchLimits(settings.fetch_bytes_max, settings.fetch_s)
    return ImageFetcher(limits, Guard(private=settings.fetch_private))


def aliases(settings: Settings, known: Mapping[str, ProviderEntry]) -> AliasRegistry:
    """The aliases. Raises AliasConfigError, or SettingsError where their file cannot be read."""
    _, text = aliases_source(settings)
    return AliasRegistry(text, {name: entry.default_model for name, entry in known.items()}, LOCAL)


def health(settings: Settings, known: Mapping[str, ProviderEntry], clock: Clock) -> ProviderHealthCache:
    """Every provider healthy."""
    policy = HealthPolicy(
        settings.health_failures,
        settings.health_backoff_s,
        lambda: random.uniform(1.0, 1.5),  # noqa: S311
    )
    return ProviderHealthCache(known, policy, clock)


def with_cors(settings: Settings, gateway: Gateway) -> Any:
    """The gateway behind CORS, if any origin may call it from a web page."""
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
            "x-mana-llm-prompt-truncated",
            *(f"x-mana-llm-{name}" for name in ("resolved", "attempts", "config", "cache", "ignored", "usage")),
        ],
    )
