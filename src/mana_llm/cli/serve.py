"""`mana-llm serve`: the gateway with what is really there."""

import asyncio
import dataclasses

import click

from mana_llm.cli.environment import settings_here


@click.command(short_help="Serve with what is really there.")
def command() -> None:
    """Serve on HOST and PORT with the providers that are configured, and say what was found."""
    settings = settings_here()
    from mana_llm.cli.running import bound, configure_logs, loop_factory, serve_until_stopped
    from mana_llm.edge.sockets import raise_descriptor_limit

    raise_descriptor_limit()
    listener = bound(settings)
    worker = None
    if settings.workers > 1:
        from mana_llm.cli.supervisor import worker_of

        # Before anything that a fork would not carry over: a loop, a thread.
        worker = worker_of(settings, listener)
        settings = dataclasses.replace(settings, worker=worker.index)
    with configure_logs(settings) as lines, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve_until_stopped(settings, listener, lines, worker))
