"""The files that an operator writes: where they are looked for, and their text."""

from importlib import resources
from pathlib import Path
from typing import Final

from mana_llm.settings import Settings, SettingsError

WORKING_COPY: Final = Path("aliases.yaml")
PROVIDERS_HERE: Final = Path("providers.yaml")


def aliases_source(settings: Settings) -> tuple[str, str]:
    """Where the aliases come from, in words, and their text.

    Raises:
        SettingsError: if ALIASES_PATH names a file that cannot be read.
    """
    path = Path(settings.aliases_path) if settings.aliases_path else WORKING_COPY
    if not settings.aliases_path and not path.is_file():
        shipped = resources.files("mana_llm").joinpath("aliases.yaml")
        return "the shipped aliases.yaml", shipped.read_text(encoding="utf-8")
    return str(path), _read(path, "ALIASES_PATH")


def providers_source(settings: Settings) -> tuple[str, str]:
    """The providers file's name and text; both "" where there is none.

    Raises:
        SettingsError: if PROVIDERS_PATH names a file that cannot be read.
    """
    path = Path(settings.providers_path) if settings.providers_path else PROVIDERS_HERE
    if not settings.providers_path and not path.is_file():
        return "", ""
    return str(path), _read(path, "PROVIDERS_PATH")


def _read(path: Path, name: str) -> str:
    """The text of a file that the setting `name` names."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError(f"{name}: {path} cannot be read ({reason}).") from error
