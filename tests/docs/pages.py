"""What the tests of the documents look at: the pages, their words, and the code blocks in them."""

import re
from pathlib import Path

from tests.house.tree import ROOT

README = ROOT / "README.md"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"


def pages() -> list[Path]:
    """Every page that people read, in a stable order."""
    return [README, ARCHITECTURE, *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(path: Path) -> str:
    """The page's text."""
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """The fenced code blocks of one language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(path), re.DOTALL | re.MULTILINE)


def words(pattern: str, *paths: Path) -> set[str]:
    """Everything in these pages that a pattern finds."""
    return {word for path in paths for word in re.findall(pattern, text_of(path))}
