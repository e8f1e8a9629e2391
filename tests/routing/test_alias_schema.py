"""The published JSON Schema and the registry are of one mind."""

import json
from importlib import resources

import pytest
import yaml

from mana_llm.routing.alias_file import KEYS
from mana_llm.routing.aliases import AliasConfigError, AliasRegistry
from tests.docs.pages import blocks
from tests.house.tree import ROOT
from tests.routing.schema_check import fits

SCHEMA = json.loads(resources.files("mana_llm").joinpath("aliases.schema.json").read_text(encoding="utf-8"))
PROVIDERS = {"ollama": "", "openai": "", "fireworks": "", "groq": "", "google": ""}
PAGE = ROOT / "docs" / "aliases.md"
FILE = "aliases:\n  mana/a:\n    {}\ndefault: mana/a\n"
CHAIN = "chain: [ollama/x]\n    "

GOOD = [
    FILE.format("chain: [ollama/x]"),
    FILE.format("chain: [ollama/a model with blanks]"),
    FILE.format("chain: [ollama/hf.co/org/model:Q4, openai/x]\n    description: words"),
    *(FILE.format(CHAIN + line) for line in ("ttft_s: 5", "idle_s: 0.5", "total_s: 86400", "hedge_after_s: 1")),
    *(FILE.format(CHAIN + line) for line in ("kind: chat", "on_incapable: skip", "fallback_on: [ProviderAuthError]")),
    "aliases: {mana/a: {chain: [ollama/x]}, mana/b: {kind: embeddings, chain: [openai/y]}}\ndefault: mana/a\n",
]
BAD = [
    "",
    "[]",
    "aliases: {}\ndefault: mana/a\n",
    "aliases: {mana/a: {chain: [ollama/x]}}\n",
    "default: mana/a\n",
    FILE.format("chain: [ollama/x]") + "defaults: x\n",
    *(FILE.format(line) for line in ("chain: []", "chain: ollama/x", "chain: [x]", "chain: [ollama/]", "chain: [/x]")),
    *(FILE.format(line) for line in ("chain: [mana/b]", "chain: [ollama/x, ollama/x]", "chain: [5]", "description: x")),
    *(FILE.format(f'chain: ["{entry}"]') for entry in (" ollama/x", "ollama/x ", "ollama/ x", "ollama/x\\ty")),
    *(
        FILE.format(CHAIN + line)
        for line in ("ttft_s: 0", "ttft_s: '5'", "idle_s: -1", "total_s: 86401", "ttft_s: yes")
    ),
    *(FILE.format(CHAIN + line) for line in ("kind: other", "on_incapable: no", "fallback_on: []", "fallback_on: x")),
    *(FILE.format(CHAIN + line) for line in ("fallback_on: [ProviderTimeoutError]", "description: 5", "weight: 1")),
    FILE.format("chain: [ollama/x]").replace("mana/a", "my/a"),
    FILE.format("chain: [ollama/x]").replace("mana/a", "mana/"),
    FILE.format("chain: [ollama/x]").replace("mana/a", "'mana/a b'"),
]


def accepted(text: str) -> bool:
    try:
        AliasRegistry(text, PROVIDERS, "ollama")
    except AliasConfigError:
        return False
    return True


@pytest.mark.parametrize("text", GOOD)
def test_good_file_fits_when_both_look(text):
    """What the registry takes, the schema takes."""
    assert (fits(yaml.safe_load(text), SCHEMA, SCHEMA), accepted(text)) == (True, True)


@pytest.mark.parametrize("text", BAD)
def test_bad_file_fits_not_when_both_look(text):
    """What the schema marks as wrong in an editor, the registry rejects; and the other way round."""
    assert (fits(yaml.safe_load(text), SCHEMA, SCHEMA), accepted(text)) == (False, False)


def test_shipped_file_fits_when_an_editor_opens_it():
    """The shipped aliases fit, and both places of the file have the schema beside them under the name in line one."""
    text = (ROOT / "aliases.yaml").read_text(encoding="utf-8")
    assert fits(yaml.safe_load(text), SCHEMA, SCHEMA)
    assert text.startswith("# yaml-language-server: $schema=aliases.schema.json\n")
    for folder in (ROOT, ROOT / "src" / "mana_llm"):
        assert json.loads((folder / "aliases.schema.json").read_text(encoding="utf-8")) == SCHEMA


def test_example_of_the_page_is_good_when_it_is_read():
    """The example of docs/aliases.md is taken by both."""
    (text,) = blocks(PAGE, "yaml")
    assert (fits(yaml.safe_load(text), SCHEMA, SCHEMA), accepted(text)) == (True, True)


def test_schema_describes_every_key_when_an_editor_shows_it():
    """Every key of an alias has a description."""
    described = SCHEMA["definitions"]["alias"]["properties"]
    assert set(described) == set(KEYS)
    assert all(key["description"] for key in described.values())
