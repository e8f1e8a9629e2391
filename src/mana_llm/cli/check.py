"""`mana-llm check`: whether settings and aliases can be used."""

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from mana_llm.cli.environment import fail, settings_here
from mana_llm.settings import SettingsError

if TYPE_CHECKING:
    from mana_llm.routing.aliases import Alias


@click.command(short_help="Check settings and aliases, and start nothing.")
def command() -> None:
    """Check the environment, `.env` and the aliases file; exit 0 if `serve` would start.

    A model that is gone or goes soon is warned about.
    """
    from mana_llm.compose import aliases_source, make_gateway
    from mana_llm.routing.aliases import AliasConfigError

    settings = settings_here()
    try:
        source, _ = aliases_source(settings)
        application, _ = make_gateway(settings)
    except (SettingsError, AliasConfigError) as error:
        fail(str(error))
    configured = [name for name, entry in application.entries.items() if entry.provider]
    click.echo(f"Settings are good. Providers: {', '.join(configured) or 'none'}.")
    for warning in (*application.endings(), *_doubts(application.aliases.aliases, configured)):
        click.echo(f"Warning: {warning}.")
    click.echo(f"Aliases are good: {len(application.aliases.aliases)} in {source}.")


def _doubts(aliases: "Iterable[Alias]", configured: Collection[str]) -> Iterator[str]:
    """What a file may say and nobody can have meant."""
    for alias in aliases:
        policy = alias.policy
        if not any(target.provider in configured for target in alias.chain):
            yield f"{alias.name}: no provider of its chain is configured"
        if policy.hedge_after_s is not None and len(alias.chain) == 1:
            yield f"{alias.name}: hedge_after_s does nothing, as there is no second entry"
        if policy.ttft_s is not None and policy.total_s is not None and policy.ttft_s >= policy.total_s:
            yield f"{alias.name}: total_s is over before ttft_s, so that no second entry is asked in time"
