"""`mana-llm schema`: the JSON Schema of the aliases file, for editors."""

from importlib import resources

import click


@click.command(short_help="Print the JSON Schema of aliases.yaml, for editors.")
def command() -> None:
    """Print the JSON Schema of the aliases file.

    Keep it beside the file, and say so in the file's first line:
    `# yaml-language-server: $schema=aliases.schema.json`.
    """
    schema = resources.files("mana_llm").joinpath("aliases.schema.json")
    click.echo(schema.read_text(encoding="utf-8"), nl=False)
