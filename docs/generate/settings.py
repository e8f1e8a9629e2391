"""The settings, as a page and as an example of an environment file; both are `mana_llm.settings` in other words."""

import dataclasses
from typing import Any, Final

from docs.generate.table import MADE, code, table
from mana_llm.settings import PROXY_NAMES, Secret, specs

Spec = dataclasses.Field[Any]

_SECONDS: Final = ("_S", "_TIMEOUT")
_PAGE: Final = """\
# Settings

The gateway reads its environment and the file `.env` of its working directory; where both name a setting, the
environment wins. An unknown name that begins with `MANA_LLM_`, or a value that cannot be used, stops the start with a
message that names it. `mana-llm check` looks at all of them and starts nothing. Secrets never print.

"""
_PROXIES: Final = """
## From the conventions of the environment

{names} say which calls to providers take a proxy, as `http://host:port`;
in small letters they win over capitals. Calls to this machine never take one. `SSL_CERT_FILE` and `SSL_CERT_DIR` are
OpenSSL's own: set one where a provider's certificate is signed by an authority of yours.
"""
_EXAMPLE: Final = """\
# Copy this to .env and take the # from what you change. Every setting is here with its default.
# Made by `make docs` from src/mana_llm/settings/table.py; changes belong there.
"""


def settings_page() -> str:
    """`docs/settings.md`: a row for every setting."""
    rows = [(code(_name(spec)), _kind(spec), code(_default(spec)), spec.metadata["help"]) for spec in specs()]
    names = ", ".join(f"`{name}`" for name in PROXY_NAMES)
    made = MADE.format(source="src/mana_llm/settings/table.py")
    listing = table(("name", "type", "default", "what it does"), rows)
    return made + _PAGE + listing + _PROXIES.format(names=names)


def env_example() -> str:
    """`.env.example`: every setting as a comment that holds its default."""
    blocks = [f"# {spec.metadata['help']} ({_kind(spec)})\n#{_name(spec)}={_default(spec)}\n" for spec in specs()]
    return "\n".join([_EXAMPLE, *blocks])


def _name(spec: Spec) -> str:
    return str(spec.metadata["name"])


def _default(spec: Spec) -> str:
    """The default as one would write it in the environment."""
    default = spec.default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple | Secret):
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def _kind(spec: Spec) -> str:
    """What a value may be: its type, its unit, and its least and greatest."""
    default, limits = spec.default, spec.metadata
    if limits.get("secret"):
        return "secrets, comma-separated"
    if isinstance(default, Secret):
        return "secret"
    if isinstance(default, tuple):
        return "list, comma-separated"
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int | float):
        return f"{_unit(spec)}{_range(spec)}"
    if "choices" in limits:
        return "one of " + ", ".join(limits["choices"])
    return "URL" if limits.get("url") else "text"


def _unit(spec: Spec) -> str:
    name = _name(spec)
    if name.endswith(_SECONDS):
        return "seconds"
    return "bytes" if "_BYTES_" in name else "whole number"


def _range(spec: Spec) -> str:
    low, high = spec.metadata.get("low"), spec.metadata.get("high")
    if high is not None:
        return f" from {low} to {high}"
    if low is None:
        return ""
    # The least of what must be more than nothing is a millisecond, which is nobody's wish and needs no words.
    return ", more than 0" if 0 < low < 1 else f", at least {low}"
