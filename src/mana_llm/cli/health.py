"""`mana-llm health`: asks a running gateway, for people and for container health checks."""

import json

import click

from mana_llm.cli.asking import ask
from mana_llm.cli.environment import settings_here

TIMEOUT_S = 3.0


@click.command(short_help="Ask a running gateway for its health.")
@click.option("--all", "everything", is_flag=True, help="Print /v1/health: state, failures and load of each provider.")
def command(*, everything: bool) -> None:
    """Print /health of the gateway on this machine's PORT; exit 1 if it does not answer."""
    path = "/v1/health" if everything else "/health"
    click.echo(json.dumps(ask(settings_here(), "GET", path, TIMEOUT_S), indent=2))
