"""`mana-llm check`: whether settings and aliases can be used."""

import click

from mana_llm.cli.environment import fail, settings_here
from mana_llm.settings import SettingsError


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
    for ending in application.endings():
        click.echo(f"Warning: {ending}.")
    click.echo(f"Aliases are good: {len(list(application.aliases.aliases))} in {source}.")
