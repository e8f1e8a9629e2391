"""The promise about weight: few distributions at run time, every one of them pinned with hashes."""

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.tree import ROOT

RUNTIME_DISTRIBUTIONS_MAX = 12
CLIENT_PINS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "requirements-clients").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def _installed_closure(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The installed distributions that this one brings, by the markers of this machine; itself left out."""
    found: set[str] = set()
    waiting = [(name, extras)]
    while waiting:
        current, wanted = waiting.pop()
        for text in metadata.requires(current) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                continue
            brought = canonicalize_name(requirement.name)
            if brought not in found:
                found.add(brought)
                waiting.append((brought, frozenset(requirement.extras)))
    return found


def _pins(file: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in PIN.findall(_text(file))}


def _text(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def _names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def _listed(file: str) -> set[str]:
    lines = [line for line in _text(file).splitlines() if line and not line.startswith(("#", "-"))]
    return _names(lines)


def test_runtime_stays_light_when_its_distributions_are_counted():
    """An install without extras brings at most twelve distributions besides our own."""
    assert len(_installed_closure("mana-llm")) <= RUNTIME_DISTRIBUTIONS_MAX


def test_runtime_pins_match_the_project_when_it_is_installed():
    """The pins hold exactly what the runtime and the terminal extra bring, on this Python at least."""
    brought = _installed_closure("mana-llm", frozenset({"", "terminal"}))
    assert brought <= _pins("requirements.txt").keys()


def test_requirements_name_the_same_as_the_project_when_compared():
    """requirements.in repeats pyproject.toml's dependencies with the terminal extra, and nothing else."""
    named = _names(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["terminal"])
    assert _listed("requirements.in") == named


def test_pins_agree_when_a_distribution_is_in_two_files():
    """What is installed for development is what runs in production, version by version."""
    development = _pins("requirements-dev.txt")
    for file in ("requirements.txt", "requirements-build.txt"):
        pins = _pins(file)
        assert pins == {name: development.get(name) for name in pins}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-build.txt", "requirements-dev.txt", *CLIENT_PINS])
def test_requirement_has_a_hash_when_it_is_pinned(file):
    """Every requirement is an exact pin followed by at least one SHA-256."""
    blocks = re.split(r"\n(?=\S)", "\n" + _text(file).strip())
    entries = [block for block in blocks if block.strip() and not block.startswith("#")]
    assert [entry[:60] for entry in entries if not (PIN.match(entry) and "--hash=sha256:" in entry)] == []


@pytest.mark.parametrize("file", CLIENT_PINS)
def test_client_has_tests_and_a_runtime_when_it_is_pinned(file):
    """Every client's environment has its wish list, its tests, and all that the gateway runs on."""
    name = file.removeprefix("requirements-clients/").removesuffix(".txt")
    assert (ROOT / file).with_suffix(".in").is_file()
    assert (ROOT / "tests" / "clients" / f"test_{name.replace('-', '_')}.py").is_file()
    assert _installed_closure("mana-llm", frozenset({"", "terminal"})) <= _pins(file).keys()


def test_version_agrees_when_the_package_and_the_project_state_it():
    """`mana_llm.__version__`, pyproject.toml and the installed metadata tell one version."""
    import mana_llm

    assert mana_llm.__version__ == PROJECT["version"] == metadata.version("mana-llm")


def test_aliases_are_one_file_when_seen_from_the_root():
    """The aliases.yaml at the root is the package's own file, so that the two cannot differ."""
    assert (ROOT / "aliases.yaml").samefile(ROOT / "src" / "mana_llm" / "aliases.yaml")
