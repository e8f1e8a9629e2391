"""Environment and `.env` to one frozen value; what cannot be used is named, and what would be right."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mana_llm.settings.kinds import Secret, SettingsError, is_base_url
from mana_llm.settings.table import Settings, specs

OWN_PREFIX: Final = "MANA_LLM_"
NOT_SETTINGS: Final = ("MANA_LLM_RECORDED", "MANA_LLM_CORPORA")
"""Where the tests find recorded traffic and bad input; they say nothing to the gateway."""
PROXY_NAMES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


def load(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """Read the settings; the environment wins over the file.

    Raises:
        SettingsError: for an unknown MANA_LLM_* name or a value that cannot be used.
    """
    values = {**(parse_env_file(env_file) if env_file and env_file.is_file() else {}), **environ}
    known = {spec.metadata["name"]: spec for spec in specs()}
    for name in values:
        if name.startswith(OWN_PREFIX) and name not in known and name not in NOT_SETTINGS:
            raise SettingsError(f"{name} is not a setting. {_nearest(name, known)}")
    chosen = {spec.name: _parse(spec, values[name]) for name, spec in known.items() if name in values}
    proxies = tuple(
        (name, values[name]) for upper in PROXY_NAMES for name in (upper, upper.lower()) if values.get(name)
    )
    environment = tuple((name, Secret(value)) for name, value in values.items())
    return Settings(**chosen, proxies=proxies, environment=environment)


def parse_env_file(path: Path) -> dict[str, str]:
    """Read `NAME=value` lines; `#` comments, blank lines, `export ` and matching quotes are understood.

    Raises:
        SettingsError: for a line that is none of these, with its number.
    """
    values = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError(f"{path.name} cannot be read: {reason}.") from error
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise SettingsError(f"{path.name} line {number} is not NAME=value.")
        values[name.strip()] = _unquoted(value.strip())
    return values


def _unquoted(value: str) -> str:
    if value[:1] in ("'", '"'):
        quote = value[0]
        end = value.find(quote, 1)
        return value[1:end] if end > 0 else value
    return value.split(" #", 1)[0].rstrip()


def _parse(spec: dataclasses.Field[Any], text: str) -> Any:
    name, default = spec.metadata["name"], spec.default
    text = text.strip()
    if spec.metadata.get("secret"):
        return tuple(Secret(part.strip()) for part in text.split(",") if part.strip())
    if isinstance(default, Secret):
        if not (text.isascii() and text.isprintable()):
            raise SettingsError(f"{name} has characters that no key has; it may hold a line break.")
        return Secret(text)
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, bool):
        return _boolean(name, text)
    if isinstance(default, int | float):
        return _number(name, text, spec)
    if text not in spec.metadata.get("choices", (text,)):
        raise SettingsError(f"{name} is {text!r}; use one of {', '.join(spec.metadata['choices'])}.")
    if spec.metadata.get("url") and text and not is_base_url(text):
        raise SettingsError(f"{name} is not a base URL such as http://localhost:11434 (no query, no password).")
    return text


def _boolean(name: str, text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    if text.lower() not in words:
        raise SettingsError(f"{name} is {text!r}; use true or false.")
    return words[text.lower()]


def _number(name: str, text: str, spec: dataclasses.Field[Any]) -> float:
    kind = int if isinstance(spec.default, int) else float
    try:
        value: float = kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{name} is {text!r}; use {what}, such as {spec.default}.") from error
    low, high = spec.metadata.get("low", float("-inf")), spec.metadata.get("high", float("inf"))
    if not low <= value <= high or value in (float("inf"), float("-inf")):
        raise SettingsError(f"{name} is {text}; use a number from {low} to {high}.")
    return value


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else "See docs/settings.md for the list."
