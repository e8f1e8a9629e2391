"""The catalogue: what is known of models, which of those that are named end soon, and the shipped file."""

import json
from datetime import date
from importlib import resources

import pytest
import yaml

from mana_llm.compose import Application
from mana_llm.providers.registry import LOCAL
from mana_llm.routing.catalogue import Catalogue, endings
from mana_llm.schema.targets import target_of
from mana_llm.settings import Secret, Settings

TODAY = date(2026, 11, 21)
FILE = {
    "source": "a test",
    "date": "2026-11-20",
    "models": {
        "openai": {
            "big": {"in": 2.0, "cached": 0.5, "out": 8.0, "context": 1000, "output": 100, "can": ["completion"]},
            "ft:big": {"in": 3.0, "can": ["completion"]},
            "old": {"in": 1.0, "shutdown": "2026-10-23"},
            "near": {"shutdown": "2027-01-20"},
            "later": {"shutdown": "2027-01-21"},
            "now": {"shutdown": "2026-11-21"},
            "v-2026-01-01": {"in": 9.0},
        }
    },
}
# What the models of a shipped alias must be able to do.
NEEDED = {
    "mana/fast-text": {"completion"},
    "mana/long-form": {"completion"},
    "mana/structured": {"completion", "structured_output"},
    "mana/reasoning": {"completion", "tools", "thinking"},
    "mana/vision": {"completion", "vision"},
}


def made() -> Catalogue:
    return Catalogue(lambda: json.dumps(FILE).encode())


def shipped() -> Catalogue:
    return Catalogue(resources.files("mana_llm").joinpath("catalogue.json").read_bytes)


def shipped_aliases() -> dict:
    return yaml.safe_load(resources.files("mana_llm").joinpath("aliases.yaml").read_text(encoding="utf-8"))["aliases"]


class Day:
    """A clock that stands still on one day."""

    def __init__(self, day: str) -> None:
        self.wall = date.fromisoformat(day).toordinal() - date(1970, 1, 1).toordinal()

    def now_s(self) -> float:
        return 0.0

    def wall_s(self) -> float:
        return self.wall * 86_400.0 + 3_600.0


def test_file_is_read_once_when_something_is_asked():
    """Nothing is read before the first question, and nothing twice."""
    reads = []

    def read() -> bytes:
        reads.append(1)
        return json.dumps(FILE).encode()

    catalogue = Catalogue(read)
    assert not reads
    assert catalogue.facts("openai", "big").context_tokens == 1000
    assert catalogue.facts("openai", "nothing") is None
    assert catalogue.date == date(2026, 11, 20)
    assert len(reads) == 1


def test_facts_are_the_models_own_when_its_name_is_there():
    """An exact name wins over its relatives."""
    assert made().facts("openai", "v-2026-01-01").input_usd_per_mtok == 9.0


@pytest.mark.parametrize("name", ["big-2026-03-05", "big-20260305", "big-0731", "big-001"])
def test_facts_are_the_bases_when_a_snapshot_is_unknown(name):
    """A snapshot costs and can what its base does."""
    facts = made().facts("openai", name)
    assert (facts.input_usd_per_mtok, facts.context_tokens, facts.can) == (2.0, 1000, ("completion",))


def test_shutdown_is_not_inherited_when_a_snapshot_is_unknown():
    """A newer snapshot of a model that ends does not end with it."""
    facts = made().facts("openai", "old-2026-11-01")
    assert (facts.input_usd_per_mtok, facts.shutdown) == (1.0, None)


@pytest.mark.parametrize("name", ["big:free", "big-0731:free"])
def test_price_is_not_inherited_when_a_variant_is_unknown(name):
    """A variant shares the context of its base, not its price."""
    facts = made().facts("openai", name)
    assert facts.context_tokens == 1000
    assert facts.input_usd_per_mtok is facts.cached_usd_per_mtok is facts.output_usd_per_mtok is None


def test_facts_are_the_tuned_bases_when_the_model_is_tuned():
    """A model of one's own has the price of tuned models of that base."""
    assert made().facts("openai", "ft:big:me:mine:abc").input_usd_per_mtok == 3.0


@pytest.mark.parametrize(("provider", "model"), [("nobody", "big"), ("openai", ""), ("openai", "bigger"), ("", "")])
def test_nothing_is_known_when_nothing_is_near(provider, model):
    """An unknown provider or model has no facts."""
    assert made().facts(provider, model) is None


def test_endings_name_alias_model_and_date_when_the_end_is_near():
    """Gone and within 60 days is told; later, undated and unknown models are not."""
    named = [("mana/x", target_of("openai", name)) for name in ("old", "near", "later", "now", "big", "who")]
    assert [str(ending) for ending in endings(named, made(), TODAY)] == [
        "mana/x: openai/old was shut down on 2026-10-23",
        "mana/x: openai/near shuts down on 2027-01-20, in 60 days",
        "mana/x: openai/now shuts down on 2026-11-21, today",
    ]


def test_endings_are_the_applications_when_chains_and_defaults_name_them(tmp_path):
    """Chains and the defaults of configured providers are looked at, on the day of the wall clock."""
    file = tmp_path / "aliases.yaml"
    file.write_text("aliases: {mana/a: {chain: [openai/gpt-5-mini, openai/gpt-5.4-mini]}}\ndefault: mana/a\n")
    settings = Settings(
        aliases_path=str(file), google_api_key=Secret("x"), google_default_model="gemini-2.5-flash", proxies=()
    )
    application = Application(settings)
    application.clock = Day("2026-11-21")
    assert [str(ending) for ending in application.endings()] == [
        "mana/a: openai/gpt-5-mini shuts down on 2026-12-11, in 20 days",
        "the default of google: google/gemini-2.5-flash shuts down on 2026-12-01, in 10 days",
    ]
    application.clock = Day("2026-10-01")
    assert [ending.target.model for ending in application.endings()] == []


def test_catalogue_is_shipped_when_installed():
    """The package holds the file, with where it is from and when, and facts for many providers."""
    file = json.loads(resources.files("mana_llm").joinpath("catalogue.json").read_bytes())
    assert "MIT" in file["source"]
    assert date.fromisoformat(file["date"]) >= date(2026, 11, 20)
    assert len(file["models"]) >= 10
    assert sum(len(models) for models in file["models"].values()) >= 500


def test_catalogue_knows_only_our_providers_when_shipped():
    """Every provider of the file is one that the gateway has."""
    file = json.loads(resources.files("mana_llm").joinpath("catalogue.json").read_bytes())
    assert set(file["models"]) <= set(Application(Settings(proxies=())).entries)


@pytest.mark.parametrize("alias", NEEDED)
def test_shipped_entry_is_known_alive_and_able_when_it_is_a_cloud(alias):
    """Every cloud entry of a shipped alias is in the catalogue, ends not soon, and can do what its class is for."""
    catalogue = shipped()
    clouds = [entry.split("/", 1) for entry in shipped_aliases()[alias]["chain"] if not entry.startswith(LOCAL + "/")]
    assert clouds
    for provider, model in clouds:
        facts = catalogue.facts(provider, model)
        assert facts is not None, f"{provider}/{model}"
        assert NEEDED[alias] <= set(facts.can), f"{provider}/{model}"
    named = [(alias, target_of(provider, model)) for provider, model in clouds]
    assert endings(named, catalogue, catalogue.date) == []


def test_shipped_aliases_are_all_judged_when_counted():
    """No shipped alias is left out above."""
    assert set(shipped_aliases()) == set(NEEDED)


def test_default_models_are_alive_when_settings_are_untouched():
    """The models that the settings name by default do not end soon."""
    application = Application(Settings(google_api_key=Secret("x"), proxies=()))
    application.clock = Day(str(application.catalogue.date))
    assert application.endings() == []
