"""`mana-llm serve`: the gateway with what is really there."""

import asyncio
import logging

import click

from mana_llm.cli.environment import fail, settings_here
from mana_llm.cli.found import tell_what_is_there
from mana_llm.settings import Settings, SettingsError


@click.command(short_help="Serve with what is really there.")
def command() -> None:
    """Serve on HOST and PORT with the providers that are configured, and say what was found."""
    run(settings_here())


def run(settings: Settings) -> None:
    """Serve until stopped."""
    from mana_llm.compose import make_gateway
    from mana_llm.routing.aliases import AliasConfigError

    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        application, server = make_gateway(settings)
    except (SettingsError, AliasConfigError) as error:
        fail(str(error))

    async def serve() -> None:
        telling = asyncio.create_task(tell_what_is_there(application, server))
        await server.serve()
        telling.cancel()

    server.config.load()
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve())
