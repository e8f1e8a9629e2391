"""Every name that the documents use is one that the code knows, and what they leave out is not there."""

import re

import yaml

from mana_llm.cli import COMMANDS
from mana_llm.compose import make_gateway
from mana_llm.settings import PROXY_NAMES, Settings, specs
from tests.docs.pages import ARCHITECTURE, README, blocks, pages, text_of, words
from tests.house.dockerfile import instructions
from tests.house.tree import ROOT, source_files

SETTINGS = {spec.metadata["name"] for spec in specs()}
# Names of the environment that are somebody else's.
# The last is the variable of an example.
FOREIGN = {*PROXY_NAMES, "SSL_CERT_FILE", "SSL_CERT_DIR", "LAB_TOKEN"}
CAPITALS = r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b"
OWN = r"\bMANA_LLM_[A-Z0-9_]+\b"
HEADER = r"(?i)\bx-mana-llm-[a-z]+\b"


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))


def test_readme_gives_two_commands_when_somebody_tries_it():
    """The first block of the README is `make demo` and `make test`, and the Makefile has both."""
    assert blocks(README, "sh")[0].split("\n") == ["make demo", "make test", ""]
    assert {"demo", "test"} <= _targets()


def test_command_exists_when_a_page_names_it():
    """Every `make ...` and `mana-llm ...` that a page tells people to run is there."""
    assert words(r"`make ([a-z-]+)", *pages()) <= _targets()
    assert words(r"`mana-llm ([a-z]+)", *pages()) <= set(COMMANDS)


def test_setting_exists_when_a_page_names_it():
    """Every name in capitals that a page uses is a setting, or one of the few that belong to others."""
    assert words(CAPITALS, *pages()) - FOREIGN <= SETTINGS


def test_setting_exists_when_the_image_sets_it():
    """The image's environment, apart from Python's and pip's, is made of settings."""
    given = {
        word.partition("=")[0]
        for step, rest in instructions(text_of(ROOT / "Dockerfile"))
        if step == "ENV"
        for word in rest.split()
    }
    assert {name for name in given if not name.startswith(("PIP_", "PYTHON")) and name != "PATH"} <= SETTINGS
    assert words(OWN, ROOT / "Dockerfile") <= SETTINGS


def test_setting_exists_when_compose_sets_it():
    """Compose gives the gateway settings and nothing else, and reads only settings from its own environment."""
    file = ROOT / "docker-compose.yml"
    services = yaml.safe_load(text_of(file))["services"]
    assert set(services["mana-llm"]["environment"]) <= SETTINGS
    assert words(r"\$\{([A-Z_]+)", file) | words(OWN, file) <= SETTINGS


def test_setting_exists_when_the_readme_puts_it_into_a_file():
    """Every line of the README's `.env` is a setting."""
    names = {line.partition("=")[0] for line in blocks(README, "sh")[1].split()}
    assert names
    assert names <= SETTINGS


def test_header_is_told_when_the_code_sends_it():
    """The README names every X-Mana-LLM header that the code writes, and no other."""
    sent = {name.lower() for name in words(HEADER, *source_files())}
    assert {name.lower() for name in words(HEADER, README)} == sent


def test_metric_exists_when_a_page_names_it():
    """Every metric that a page names is exposed before the first request."""
    application, _ = make_gateway(Settings())
    exposed = set(re.findall(r"^# TYPE (\w+)", application.metrics.text().decode(), re.MULTILINE))
    named = words(r"\bmana_llm_[a-z_]+\b", *pages())
    assert named
    assert named <= exposed


def test_status_is_told_when_the_code_answers_with_it():
    """Every status of docs/errors.md is in the README's table."""
    page = text_of(ROOT / "docs" / "errors.md")
    # 499 is for logs and metrics: nobody is there to be answered.
    statuses = set(re.findall(r"\| `?([45]\d\d)`? \|", page)) - {"499"}
    told = set(re.findall(r"\b[45]\d\d\b", text_of(README).partition("| status | when |")[2].partition("\n\n")[0]))
    assert statuses
    assert told == statuses


def test_floor_is_told_when_the_package_has_it():
    """ARCHITECTURE's table of floors has every part of the package."""
    parts = {path.name for path in (ROOT / "src" / "mana_llm").iterdir() if path.suffix in ("", ".py")}
    floors = set(re.findall(r"^\| \[([a-z.]+)\]", text_of(ARCHITECTURE), re.MULTILINE))
    assert parts - {"__init__.py", "__main__.py", "__pycache__"} == floors
