"""`mana-llm demo`: the gateway before simulated providers; needs no key, no GPU and no network."""

import asyncio
import dataclasses
import os
import socket
from importlib import resources

import click

from mana_llm.cli.environment import settings_here
from mana_llm.observe.lines import LineWriter
from mana_llm.settings import Secret, Settings


@click.command(short_help="Serve simulated providers: try it without a key or a GPU.")
def command() -> None:
    """Serve on PORT (3025) before simulated Ollama, OpenAI-compatible and Gemini servers."""
    settings = settings_here()
    from mana_llm.cli.running import bound, configure_logs, loop_factory

    listener = bound(settings)
    with configure_logs(settings) as lines, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_demo(settings, listener, lines))


def pointed_at(settings: Settings, ollama: str, openai: str, google: str) -> Settings:
    """The settings with every provider where the simulator is; no real key is used."""
    chosen: dict[str, object] = {"ollama_url": ollama, "google_base_url": google, "proxies": ()}
    for spec in dataclasses.fields(settings):
        if spec.name.endswith("_base_url") and spec.name not in chosen:
            chosen[spec.name] = openai
        if spec.name.endswith("_api_key") and spec.name != "gpu_api_key":
            chosen[spec.name] = Secret("simulated")
    return dataclasses.replace(settings, **chosen)  # type: ignore[arg-type]


async def _demo(settings: Settings, listener: socket.socket, lines: LineWriter) -> None:
    from mana_llm.cli.running import serve_until_stopped
    from mana_llm.simulator import Simulator

    async with Simulator(host="127.0.0.1", port=0) as simulator:
        simulated = pointed_at(settings, simulator.ollama_url, simulator.openai_url, simulator.google_url)
        # Servers of providers.yaml are real: neither they nor aliases that name them take part.
        shipped = str(resources.files("mana_llm").joinpath("aliases.yaml"))
        simulated = dataclasses.replace(simulated, aliases_path=shipped, providers_path=os.devnull, environment=())
        simulated = dataclasses.replace(simulated, workers=1)
        click.echo("Everything below is simulated: no model is asked.\n")
        await serve_until_stopped(simulated, listener, lines)
