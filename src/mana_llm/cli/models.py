"""`mana-llm models`: what can be asked for, straight from the configured providers."""

import asyncio
from typing import TYPE_CHECKING, Final

import click

from mana_llm.cli.environment import fail, settings_here
from mana_llm.settings import Settings, SettingsError

if TYPE_CHECKING:
    from mana_llm.compose import Application
    from mana_llm.edge.models import ModelRow

PATIENCE_S: Final = 12.0
"""Longer than the limit on one list, so that every provider has answered or failed by then."""
HEADINGS: Final = ("model", "context", "in", "out", "shutdown", "can")


@click.command(short_help="List the models of the configured providers.")
@click.option("--json", "as_json", is_flag=True, help="The list as GET /v1/models gives it.")
def command(*, as_json: bool) -> None:
    """Print aliases and models with context (tokens), prices (USD per million tokens), shutdown day and abilities.

    The providers are asked directly; no gateway needs to run. Who did not answer is said on standard error.
    """
    settings = settings_here()
    asyncio.run(_list(settings, as_json=as_json))


async def _list(settings: Settings, *, as_json: bool) -> None:
    from mana_llm.compose import Application
    from mana_llm.routing.aliases import AliasConfigError

    try:
        application = Application(settings)
    except (SettingsError, AliasConfigError) as error:
        fail(str(error))
    try:
        await application.models.refresh(PATIENCE_S)
    finally:
        await application.models.close()
        await application.transport.close()
    if as_json:
        click.echo(application.listing.body())
    else:
        _print(application)
    for line in silent(application):
        click.echo(line, err=True)


def _print(application: "Application") -> None:
    from mana_llm.cli.table import print_table

    print_table(HEADINGS, [cells(row) for row in application.listing.rows()], {})
    click.echo(f"\nPrices in USD per million tokens, contexts in tokens; facts as of {application.catalogue.date}.")


def cells(row: "ModelRow") -> tuple[str, ...]:
    """One row of the table; empty where nothing is known."""
    prices = (row.pricing.input_usd_per_mtok, row.pricing.output_usd_per_mtok) if row.pricing else (None, None)
    return (
        row.id,
        f"{row.context_window:,}" if row.context_window else "",
        *("" if price is None else f"{price:g}" for price in prices),
        str(row.shutdown_date or ""),
        row.description or ", ".join(row.capabilities or ()),
    )


def silent(application: "Application") -> list[str]:
    """A line for every configured provider whose list did not come, with the reason."""
    came = application.models.lists()
    asked = [name for name, entry in application.entries.items() if entry.provider and name not in came]
    return [f"{name} did not answer: {application.models.problem(name) or 'not in time'}" for name in asked]
