"""`mana-llm reload`: has a running gateway read its aliases anew."""

import click

from mana_llm.cli.asking import ask
from mana_llm.cli.environment import settings_here

TIMEOUT_S = 30.0
"""Seconds; a file of 10,000 aliases takes one, and another reload may have to end first."""


@click.command(short_help="Have a running gateway read its aliases anew.")
def command() -> None:
    """Reload the aliases of the gateway on this machine's PORT and print their version.

    A file that cannot be used changes nothing; what is wrong with it is printed, and the exit code is 1.
    """
    outcome = ask(settings_here(), "POST", "/v1/aliases/reload", TIMEOUT_S)
    known = {"ok": "The aliases are now at version", "unchanged": "Nothing changed; the aliases are at version"}
    click.echo(f"{known[outcome['result']]} {outcome['version']}.")
    for warning in outcome["warnings"]:
        click.echo(f"Warning: {warning}.", err=True)
