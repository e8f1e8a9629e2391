"""Writes the pages that the code already says: `make docs`. A test fails while a kept page says something else.

A page is a function without arguments, or with the kept text where only a part of it is made; what it gives
depends on nothing but the files of this checkout.
"""

from pathlib import Path
from typing import Final

from docs.generate.aliases import aliases_schema, with_keys
from docs.generate.errors import errors_page
from docs.generate.faults import faults_page
from docs.generate.figures import with_figures
from docs.generate.reliability import reliability_page
from docs.generate.settings import env_example, settings_page

ROOT: Final = Path(__file__).resolve().parents[2]


def pages() -> dict[str, str]:
    """What every made file should hold, by its path from the checkout's root."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    aliases = (ROOT / "docs" / "aliases.md").read_text(encoding="utf-8")
    return {
        ".env.example": env_example(),
        "docs/aliases.md": with_keys(aliases),
        "src/mana_llm/aliases.schema.json": aliases_schema(),
        "docs/settings.md": settings_page(),
        "docs/errors.md": errors_page(ROOT / "src" / "mana_llm"),
        "docs/faults.md": faults_page(),
        "docs/reliability.md": reliability_page(ROOT / "tests"),
        "README.md": with_figures(readme, ROOT / "benchmarks" / "results.json"),
    }


def stale() -> list[str]:
    """The paths of the files that hold something else, or are not there."""
    return [path for path, text in pages().items() if not _holds(ROOT / path, text)]


def write() -> list[str]:
    """Bring every made file up to date; gives the paths of those that changed."""
    made = pages()
    changed = stale()
    for path in changed:
        (ROOT / path).write_text(made[path], encoding="utf-8")
    return changed


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
