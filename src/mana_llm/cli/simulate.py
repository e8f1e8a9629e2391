"""`mana-llm simulate`: simulated Ollama, OpenAI-compatible and Gemini servers on one port."""

import asyncio

import click


@click.command(short_help="Run simulated providers alone.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3026, show_default=True, help="Port to listen on.")
def command(host: str, port: int) -> None:
    """Play three providers, for tests and for trying things out; everything they say is made up."""
    with asyncio.Runner() as runner:
        runner.run(_simulate(host, port))


async def _simulate(host: str, port: int) -> None:
    from mana_llm.simulator import Simulator

    async with Simulator(host=host, port=port) as simulator:
        click.echo(f"Simulated Ollama at  OLLAMA_URL={simulator.ollama_url}")
        click.echo(f"Simulated OpenAI at  OPENAI_BASE_URL={simulator.openai_url}")
        click.echo(f"Simulated Gemini at  GOOGLE_BASE_URL={simulator.google_url}")
        click.echo(f"Control it at        {simulator.url}/_simulator/script")
        await asyncio.Event().wait()
