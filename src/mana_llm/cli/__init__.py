"""The command line: one file per command, loaded when it is called."""

from importlib import import_module
from types import MappingProxyType
from typing import Final

import click

from mana_llm import __version__

COMMANDS: Final = MappingProxyType(
    {
        "serve": "Serve with what is really there.",
        "demo": "Serve simulated providers: try it without a key or a GPU.",
        "simulate": "Run simulated providers alone.",
        "models": "List the models of the configured providers.",
        "check": "Check settings and aliases, and start nothing.",
        "health": "Ask a running gateway for its health.",
        "explain": "Say which entry of an alias would answer now, and why.",
        "reload": "Have a running gateway read its aliases anew.",
        "schema": "Print the JSON Schema of aliases.yaml, for editors.",
    }
)


class Commands(click.Group):
    """Loads a command's module when it is called: `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"mana_llm.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands)
@click.version_option(__version__, prog_name="mana-llm")
def main() -> None:
    """One OpenAI-compatible gateway in front of local and cloud language models."""
