"""Asking the gateway that runs on this machine, for the commands that do."""

import json
import sys
import urllib.error
import urllib.request
from typing import Any, NoReturn

import click

from mana_llm.settings import Settings


def ask(settings: Settings, method: str, path: str, limit_s: float) -> Any:
    """The JSON of the gateway's answer at `path`; ends the command, with 1 and a word of why, if it is no good one."""
    url = f"{_address(settings)}{path}"
    request = urllib.request.Request(url, method=method)  # noqa: S310 - always http
    if settings.caller_keys:
        request.add_header("Authorization", f"Bearer {settings.caller_keys[0].reveal()}")
    # This machine's own gateway is never behind a proxy, whatever HTTP_PROXY says.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=limit_s) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        _refuse(_said(error) or f"{url} answers {error.code}. Is it a mana-llm gateway?")
    except (OSError, ValueError) as error:
        _refuse(f"{url} does not answer ({type(error).__name__}). Is the gateway running?")


def _address(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "localhost") else settings.host  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _said(error: urllib.error.HTTPError) -> str:
    """The message of an error in OpenAI's shape, "" if it is in another."""
    try:
        return str(json.load(error)["error"]["message"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _refuse(message: str) -> NoReturn:
    click.echo(f"mana-llm: {message}", err=True)
    sys.exit(1)
