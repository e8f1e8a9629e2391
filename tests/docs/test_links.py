"""The pages are short, and what they point to is there."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import ARCHITECTURE, README, pages, text_of
from tests.house.tree import ROOT

LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
LINES_MAX = 150
DECISION_LINES_MAX = 40


def _anchors(path: Path) -> set[str]:
    """The names that headings have as link targets."""
    heads = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_link_resolves_when_it_is_relative(page):
    """Every relative link leads to a file of this checkout, and to a heading of it where it names one."""
    lost = []
    for target, anchor in LINK.findall(text_of(page)):
        if "://" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        if not there.is_relative_to(ROOT) or not there.exists() or (anchor and anchor not in _anchors(there)):
            lost.append(f"{target}#{anchor}")
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("page", [README, ARCHITECTURE], ids=lambda path: path.name)
def test_page_stays_short_when_it_grows(page):
    """README and ARCHITECTURE have fewer than 150 lines."""
    assert len(text_of(page).splitlines()) < LINES_MAX


def test_decision_stays_short_when_it_grows():
    """A decision has fewer than 40 lines and says its context, what was decided and the consequences."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{at:03}-" for at in range(1, len(decisions) + 1)]
    for path in decisions:
        text = text_of(path)
        assert len(text.splitlines()) < DECISION_LINES_MAX, path.name
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name


def test_architecture_counts_twelve_stops_when_read():
    """One request has twelve stops."""
    assert re.findall(r"^(\d+)\. ", text_of(ARCHITECTURE), re.MULTILINE) == [str(stop) for stop in range(1, 13)]
