"""Environment and `.env` to one frozen value."""

from mana_llm.settings.kinds import Secret, SettingsError, is_base_url
from mana_llm.settings.reading import PROXY_NAMES, load, parse_env_file
from mana_llm.settings.table import CLOUDS, Settings, specs

__all__ = [
    "CLOUDS",
    "PROXY_NAMES",
    "Secret",
    "Settings",
    "SettingsError",
    "is_base_url",
    "load",
    "parse_env_file",
    "specs",
]
