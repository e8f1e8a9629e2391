"""What the house tests look at: the files of this checkout and their syntax trees."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "mana_llm"


def source_files(*suffixes: str) -> list[Path]:
    """Every file of the package with one of these suffixes (default: Python), in a stable order."""
    return sorted(path for path in SRC.rglob("*") if path.suffix in (suffixes or (".py",)))


def files_of_tests() -> list[Path]:
    """Every file that pytest collects tests from."""
    return sorted((ROOT / "tests").rglob("test_*.py"))


def kept_files() -> list[Path]:
    """Every file that git tracks or would track, symbolic links left out (they repeat another file)."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (ROOT / name for name in listing.split("\0") if name)
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a Python file, parsed once per run; callers only read it."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a module, nested ones too."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def place(path: Path, line: int) -> str:
    """A clickable `path:line`, relative to the checkout."""
    return f"{path.relative_to(ROOT)}:{line}"
