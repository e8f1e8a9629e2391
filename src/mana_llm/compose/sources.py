"""The files that an operator writes: where they are looked for, and their text."""

import errno
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from mana_llm.routing.aliases import AliasConfigError
from mana_llm.settings import Settings, SettingsError

WORKING_COPY: Final = Path("aliases.yaml")
PROVIDERS_HERE: Final = Path("providers.yaml")
ALIASES_BYTES_MAX: Final = 16 * 1024 * 1024
"""Room for more than 100,000 aliases."""


class AliasesFile:
    """The aliases' file, which may come, change and go; implements `routing.reloading.AliasSource`."""

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.aliases_path) if settings.aliases_path else WORKING_COPY
        self._is_bound = bool(settings.aliases_path)

    def read(self) -> tuple[str, str]:
        """Where the aliases come from, in words, and their text.

        Raises:
            AliasConfigError: if the file cannot be read.
        """
        if not self._is_here():
            return "the shipped aliases.yaml", _shipped().read_text(encoding="utf-8")
        try:
            return str(self._path), _bounded(self._path)
        except (OSError, UnicodeDecodeError) as error:
            raise AliasConfigError(f"ALIASES_PATH: {self._path} cannot be read ({_reason(error)}).") from error

    def stamp(self) -> object:
        """What differs after a change; links are followed. None if there is no file now."""
        path = self._path if self._is_here() else _shipped()
        try:
            seen = path.stat() if isinstance(path, Path) else None
        except OSError:
            return None
        return seen and (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)

    def _is_here(self) -> bool:
        """Whether the file of the settings or the working directory is meant. One that was there once is waited for:
        the shipped aliases do not step in while it is being replaced.
        """
        self._is_bound = self._is_bound or self._path.is_file()
        return self._is_bound


def aliases_source(settings: Settings) -> tuple[str, str]:
    """As `AliasesFile.read`."""
    return AliasesFile(settings).read()


def providers_source(settings: Settings) -> tuple[str, str]:
    """The providers file's name and text; both "" where there is none.

    Raises:
        SettingsError: if PROVIDERS_PATH names a file that cannot be read.
    """
    path = Path(settings.providers_path) if settings.providers_path else PROVIDERS_HERE
    if not settings.providers_path and not path.is_file():
        return "", ""
    return str(path), _read(path, "PROVIDERS_PATH")


def _shipped() -> Traversable:
    return resources.files("mana_llm").joinpath("aliases.yaml")


def _bounded(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(ALIASES_BYTES_MAX + 1)
    if len(content) > ALIASES_BYTES_MAX:
        raise OSError(errno.EFBIG, f"more than {ALIASES_BYTES_MAX} bytes")
    return content.decode("utf-8")


def _read(path: Path, name: str) -> str:
    """The text of a file that the setting `name` names."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: {path} cannot be read ({_reason(error)}).") from error


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return getattr(error, "strerror", None) or "not UTF-8"
