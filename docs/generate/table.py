"""Tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Final

MADE: Final = "<!-- Made by `make docs` from {source}; changes belong there. -->\n"
"""What a made page says of itself to whoever opens it in an editor."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows under their head, as the lines of a Markdown table."""
    lines = [_line(head), "|" + " --- |" * len(head), *(_line(row) for row in rows)]
    return "\n".join(lines) + "\n"


def code(text: object) -> str:
    """A value as code; an empty one as a dash, which code cannot show."""
    return f"`{text}`" if text not in (None, "") else "-"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
