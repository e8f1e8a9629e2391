"""Tables on a terminal."""

import sys
from collections.abc import Mapping, Sequence

import click


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, str]) -> None:
    """In colour where a person looks and rich is installed, else as plain columns.

    `colours` has the cells that are shown in a colour of their own; the last column is as long as its text.
    """
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            pass
        else:
            table = Table(*headings, box=None, header_style="bold")
            for row in rows:
                # As Text: what a provider says is no markup.
                table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
            Console().print(table)
            return
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings) - 1)]
    for row in (headings, *rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        click.echo("  " + "  ".join([*cells, row[-1]]).rstrip())
