"""A provider's base URL, taken apart once."""

from urllib.parse import urlsplit

import msgspec

from mana_llm.schema.wire import Origin


class Base(msgspec.Struct, frozen=True):
    """Where a provider is: its origin, and the path that every target begins with (no slash at its end)."""

    origin: Origin
    prefix: str


def base_of(url: str) -> Base:
    """Take apart a base URL such as `https://api.groq.com/openai/v1`; settings have checked it."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Base(Origin(parts.scheme, parts.hostname or "", port), parts.path.rstrip("/"))
