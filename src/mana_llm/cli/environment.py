"""The settings as a command finds them, or a clear end."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from mana_llm.settings import Settings, SettingsError, load

USAGE = 2
"""Exit code for settings or files that cannot be used."""


def settings_here() -> Settings:
    """The settings of this environment and the `.env` file of the working directory."""
    try:
        return load(os.environ, Path(".env"))
    except SettingsError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Say what is wrong and end."""
    click.echo(f"mana-llm: {message}", err=True)
    sys.exit(USAGE)
