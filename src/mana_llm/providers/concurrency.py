"""How many requests a provider is given at once, as an operator writes it."""

import re
from collections.abc import Mapping
from typing import Final

from mana_llm.kit.placed_yaml import near
from mana_llm.ports import ProviderEntry
from mana_llm.settings import SettingsError

SETTING: Final = "MANA_LLM_MAX_CONCURRENT"
_NUMBER: Final = re.compile(r"[0-9]{1,6}")


def max_concurrent_of(text: str) -> int | None:
    """The number, 0 for no limit; None if it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


def limit(entries: Mapping[str, ProviderEntry], rows: tuple[str, ...], elsewhere: Mapping[str, str]) -> None:
    """Set the entries' limits from `provider=number` rows; `elsewhere` names the settings of those that have one.

    Raises:
        SettingsError: for a row that is not one, a provider that is unknown or stands twice, or one of `elsewhere`.
    """
    seen = set()
    for row in rows:
        name, equals, text = (part.strip() for part in row.partition("="))
        number = max_concurrent_of(text)
        if not equals or number is None:
            raise SettingsError(f"{SETTING}: {row!r} is not provider=number, such as groq=10.")
        if name in elsewhere:
            raise SettingsError(f"{SETTING}: use {elsewhere[name]} for {name}.")
        if name not in entries:
            raise SettingsError(f"{SETTING}: {name!r} is not a provider. {near(name, entries)}")
        if name in seen:
            raise SettingsError(f"{SETTING}: {name} stands there twice.")
        seen.add(name)
        entries[name].max_concurrent = number
