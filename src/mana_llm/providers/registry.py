"""Every provider there is, as this installation's settings and its providers file make them."""

from mana_llm.ports import ProviderEntry
from mana_llm.providers.base_url import base_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.concurrency import limit
from mana_llm.providers.custom import Custom, custom_providers
from mana_llm.providers.google import Google
from mana_llm.providers.ollama import Ollama
from mana_llm.providers.table import ROWS, Row
from mana_llm.settings import Settings

LOCAL = "ollama"
"""The provider that a model without a known prefix goes to."""
CLOUD_FIRST_S = 60.0
"""Seconds that a cloud may take to the first token of a stream."""


def entries(settings: Settings, source: str = "", text: str = "") -> dict[str, ProviderEntry]:
    """The providers by name, the local one first; those without their key are there, unconfigured.

    `text` is the providers file's, `source` its name for messages.

    Raises:
        SettingsError: if the providers file, or a limit, cannot be used.
    """
    found = [_ollama(settings), *(_row(settings, row) for row in ROWS), _google(settings)]
    known = {entry.name: entry for entry in found}
    added = [_custom(settings, custom) for custom in custom_providers(text, source, known)]
    known |= {entry.name: entry for entry in added}
    limit(known, settings.max_concurrent, {LOCAL: "OLLAMA_MAX_CONCURRENT"})
    return known


def _ollama(settings: Settings) -> ProviderEntry:
    entry = ProviderEntry(
        LOCAL,
        None,
        settings.ttft_s or settings.ollama_timeout,
        settings.ollama_default_model,
        "set OLLAMA_URL",
        settings.ollama_max_concurrent,
    )
    if settings.ollama_url:
        base = base_of(settings.ollama_url)
        entry.provider = Ollama(base.origin, base.prefix)
    return entry


def _google(settings: Settings) -> ProviderEntry:
    entry = ProviderEntry(
        "google", None, settings.ttft_s or CLOUD_FIRST_S, settings.google_default_model, "set GOOGLE_API_KEY"
    )
    if settings.google_api_key.reveal():
        base = base_of(settings.google_base_url)
        entry.provider = Google(base.origin, base.prefix, settings.google_api_key.reveal())
    return entry


def _row(settings: Settings, row: Row) -> ProviderEntry:
    hint = f"set {row.key_setting.upper()}"
    entry = ProviderEntry(row.name, None, settings.ttft_s or CLOUD_FIRST_S, "", hint)
    key = getattr(settings, row.key_setting).reveal()
    if key:
        base = base_of(getattr(settings, row.base_url_setting))
        entry.provider = Compatible(row.name, base, key, row.quirks)
    return entry


def _custom(settings: Settings, custom: Custom) -> ProviderEntry:
    entry = ProviderEntry(custom.name, None, settings.ttft_s or CLOUD_FIRST_S, "", f"set {custom.key_env}")
    entry.max_concurrent = custom.max_concurrent
    keys = dict(settings.environment)
    key = keys[custom.key_env].reveal() if custom.key_env in keys else ""
    if key or not custom.key_env:
        entry.provider = Compatible(custom.name, base_of(custom.base_url), key, custom.quirks)
    return entry
