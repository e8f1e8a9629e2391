"""The measured figures, from what the benchmarks keep, between two marks in the README."""

import json
import re
from pathlib import Path
from typing import Any, Final

from docs.generate.table import table

_BLOCK: Final = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)
_UNITS: Final = {"us": "µs", "x": "times"}
_NOTHING: Final = "No figures are kept here yet: `make bench` measures on your machine and prints them.\n"


def with_figures(text: str, results: Path) -> str:
    """The text with the figures of the file `results` between its marks; without the file, a sentence instead.

    Raises:
        ValueError: if the marks are not there exactly once.
    """
    block = _figures(json.loads(results.read_text(encoding="utf-8"))) if results.is_file() else _NOTHING
    changed, count = _BLOCK.subn(lambda found: found[1] + block + found[2], text)
    if count != 1:
        raise ValueError("README.md needs one block between <!-- figures --> and <!-- /figures -->.")
    return changed


def _figures(results: dict[str, Any]) -> str:
    machine = results["machine"]
    where = (
        f"`{results['command']}` on {results['made']}: {machine['cpu']}, {machine['cores']} cores, "
        f"Python {machine['python']}. All of it is in [RESULTS.md](benchmarks/RESULTS.md).\n\n"
    )
    return where + table(("", "measured", "budget"), [_row(each) for each in results["budget"]])


def _row(judged: dict[str, Any]) -> tuple[str, ...]:
    unit = _UNITS.get(judged["unit"], judged["unit"])
    figure = "not measured" if judged["figure"] is None else f"{_short(judged['figure'])} {unit}"
    return judged["title"], figure, f"{judged['most']:g} {unit}"


def _short(figure: float) -> str:
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"
