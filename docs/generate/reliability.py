"""What is shown to survive: the promises of tests that carry a row, `R<n> (<scale> of <full>): promise`."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from docs.generate.table import MADE, table

ROWS_MAX: Final = 64
_ROW: Final = re.compile(r"^R(\d+) \(([^)]*)\): (.*)")
_LONG: Final = re.compile(r"\bmark\.long\b")
_PAGE: Final = """\
# Reliability

Faults that the gateway is meant to survive are rows, R1 to R{last}. A test that shows one says so in the first
sentence of its docstring, with the scale that it runs at and the full one; this page is made of those sentences.
Ordinary tests run with `make test`, long ones with `make test-long`.

"""


class Promise(NamedTuple):
    """One test's row."""

    row: int
    scale: str
    is_long: bool
    text: str
    test: str
    file: str


def reliability_page(tests: Path) -> str:
    """`docs/reliability.md`, from the tests below the folder `tests`."""
    found = [each for path in tests.rglob("test_*.py") for each in promises_in(path, tests)]
    promises = sorted(found, key=lambda each: (each.row, each.is_long, each.file, each.test))
    page = MADE.format(source="the docstrings of tests") + _PAGE.format(last=ROWS_MAX)
    if promises:
        page += table(("row", "scale", "runs", "promise", "test"), [_cells(each) for each in promises]) + "\n"
    open_rows = sorted(set(range(1, ROWS_MAX + 1)) - {each.row for each in promises})
    if open_rows:
        page += f"No test carries these rows yet: {_ranges(open_rows)}.\n"
    return page


def promises_in(path: Path, tests: Path) -> Iterator[Promise]:
    """The rows that the tests of one file carry."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    file = path.relative_to(tests).as_posix()
    for node, is_long in _tests(module.body, is_long=_marked(module.body)):
        first = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
        found = _ROW.match(first)
        if found:
            yield Promise(int(found[1]), found[2], is_long, found[3], node.name, file)


def _tests(body: Iterable[ast.stmt], *, is_long: bool) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """The test functions of a module or a class, and whether each is marked `long`."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            marked = is_long or any(_LONG.search(ast.unparse(each)) for each in node.decorator_list)
            if isinstance(node, ast.ClassDef):
                yield from _tests(node.body, is_long=marked or _marked(node.body))
            elif node.name.startswith("test_"):
                yield node, marked


def _marked(body: Iterable[ast.stmt]) -> bool:
    """Whether `pytestmark` marks everything here as long."""
    lines = (ast.unparse(node) for node in body if isinstance(node, ast.Assign | ast.AnnAssign))
    return any(line.startswith("pytestmark") and _LONG.search(line) for line in lines)


def _cells(promise: Promise) -> tuple[str, ...]:
    runs = "long" if promise.is_long else "ordinary"
    test = f"[{promise.test}](../tests/{promise.file})"
    return f"R{promise.row}", promise.scale, runs, promise.text, test


def _ranges(rows: list[int]) -> str:
    """`R1, R4 to R6` for 1, 4, 5, 6."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][-1] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    return ", ".join(f"R{run[0]}" if len(run) == 1 else f"R{run[0]} to R{run[-1]}" for run in runs)
