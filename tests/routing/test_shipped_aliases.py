"""The shipped aliases: every entry is a model that exists, and can do what its class is for."""

from datetime import timedelta

import pytest

from mana_llm.compose import Application
from mana_llm.providers.ollama.abilities import Facts, Need, judge
from mana_llm.schema.targets import DEFAULT_POLICY, Target
from mana_llm.settings import Settings

# What a class is for, in the catalogue's words, and the local entry that it starts with.
CLASSES = {
    "mana/fast-text": ({"completion"}, "ollama/gemma3:4b"),
    "mana/long-form": ({"completion"}, "ollama/gemma3:12b"),
    "mana/structured": ({"completion", "structured_output"}, "ollama/qwen2.5:7b"),
    "mana/reasoning": ({"completion", "tools", "thinking"}, "ollama/qwen3:8b"),
    "mana/vision": ({"completion", "vision"}, "ollama/gemma3:12b"),
}
# The local server takes a format for every model that answers at all.
LOCAL_NEEDS = {"tools", "thinking", "vision"}
LASTS = timedelta(days=120)
OUTPUT_TOKENS_MIN = 32_000


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Application:
    """A gateway in a folder without a file of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        return Application(Settings())


def clouds(application: Application, alias: str) -> list[Target]:
    return list(application.aliases.resolve(alias).chain[1:])


def test_shipped_classes_are_five_when_counted(shipped):
    """The five classes are there, described, for chat, and leave the time limits to the settings."""
    assert {alias.name for alias in shipped.aliases.aliases} == set(CLASSES)
    assert all(alias.description for alias in shipped.aliases.aliases)
    assert all(alias.policy is DEFAULT_POLICY for alias in shipped.aliases.aliases)
    assert shipped.aliases.default == "mana/fast-text"


@pytest.mark.parametrize("alias", CLASSES)
def test_shipped_chain_starts_local_and_ends_in_a_cloud_when_walked(shipped, alias):
    """The first entry is Ollama's, the one that the design names; all others are clouds, of two providers at least."""
    chain = shipped.aliases.resolve(alias).chain
    assert chain[0].label == CLASSES[alias][1]
    assert len({target.provider for target in chain} - {"ollama"}) >= 2
    assert "ollama" not in {target.provider for target in chain[1:]}


@pytest.mark.parametrize("alias", CLASSES)
def test_shipped_cloud_entry_can_do_what_its_class_is_for_when_looked_up(shipped, alias):
    """Every cloud entry is in the catalogue, has the abilities of its class, and writes long answers."""
    for target in clouds(shipped, alias):
        facts = shipped.catalogue.facts(target.provider, target.model)
        assert facts, f"{target.label} is not in the catalogue"
        assert set(facts.can) >= CLASSES[alias][0], target.label
        assert facts.output_tokens_max >= OUTPUT_TOKENS_MIN, target.label


@pytest.mark.parametrize("alias", CLASSES)
def test_shipped_local_entry_can_do_what_its_class_is_for_when_its_name_decides(shipped, alias):
    """Every local entry's family is known for what its class needs."""
    target = shipped.aliases.resolve(alias).chain[0]
    needs = [Need(each, each, each, each) for each in CLASSES[alias][0] & LOCAL_NEEDS]
    judge(needs, target.model, Facts())


def test_shipped_entry_stays_when_the_catalogue_was_read(shipped):
    """No entry, and no provider's default, was to shut down within 120 days of the catalogue's date."""
    named = [target for alias in CLASSES for target in clouds(shipped, alias)]
    named.append(shipped.aliases.resolve("google").chain[0])
    for target in named:
        facts = shipped.catalogue.facts(target.provider, target.model)
        assert facts
        assert facts.shutdown is None or facts.shutdown > shipped.catalogue.date + LASTS, target.label
