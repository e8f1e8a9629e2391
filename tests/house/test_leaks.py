"""No file of the repository names a package index or a path of the machine that it was written on."""

import re
from pathlib import Path

import pytest

from tests.house.tree import ROOT, kept_files, place

# Written in halves, so that this file does not find itself.
INDEX = re.compile(
    "|".join(
        (
            "--" + "(?:extra-)?index-url",
            "--" + "find-links",
            r"https?://[^\s\"']*/sim" + r"ple\b",
            "https?://reg" + r"istry\.",
            r"files\.python" + "hosted",
            r"pypi\." + "org/",
            '"resolved": *' + '"http',
        )
    )
)
HOMES = ("/ro" + "ot", "/ho" + r"me/\w+", "/Us" + r"ers/\w+")


def _machine_paths() -> re.Pattern[str]:
    """Home folders of anyone, and this checkout's own folder, wherever a word may begin."""
    here = [re.escape(str(path)) for path in (ROOT, Path.home()) if len(path.parts) > 1]
    return re.compile(rf"(?:^|[^A-Za-z0-9_./-])(?:{'|'.join([*here, *HOMES])})/")


def _places(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in kept_files():
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
        found += [f"{place(path, number)} {line[:80]}" for number, line in enumerate(lines, 1) if pattern.search(line)]
    return found


def test_repository_names_no_package_index_when_searched():
    """Nobody who installs from this repository is sent to an index that they did not choose."""
    found = _places(INDEX)
    assert not found, "\n".join(found)


def test_repository_names_no_machine_path_when_searched():
    """Nothing in this repository depends on where it was written."""
    found = _places(_machine_paths())
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["--" + "index-url=x", "https://host/" + "sim" + "ple/", "https://reg" + "istry.x.y/"])
def test_index_is_recognised_when_a_line_names_one(line):
    """The search knows an option and an address that name an index."""
    assert INDEX.search(line)


def test_machine_path_is_recognised_when_a_line_names_one():
    """The search knows this checkout's folder and leaves relative and placeholder paths alone."""
    pattern = _machine_paths()
    assert pattern.search(f"from {ROOT}/file")
    assert not pattern.search("see src/home/x/ and ./root/")
