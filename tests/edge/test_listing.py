"""The list of models: what a row says, and that it is worked out once."""

import timeit
from datetime import date
from importlib import resources

import uvloop

from mana_llm.edge.models import Listing
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.routing.catalogue import Catalogue
from mana_llm.schema.models import Model
from tests.caller import call
from tests.world import gateway

ALIASES = "aliases: {mana/a: {description: For all, chain: [openai/x]}, mana/b: {chain: [openai/x]}}\ndefault: mana/a\n"
CALL_MS_MAX = 0.5


class Lists:
    """A directory whose lists the test holds."""

    def __init__(self, **lists: list[Model]) -> None:
        self.held = lists

    def lists(self) -> dict[str, list[Model]]:
        return dict(self.held)


def listing(**lists: list[Model]) -> tuple[Listing, Lists]:
    directory = Lists(**lists)
    registry = AliasRegistry(ALIASES, {"openai": "", "google": ""}, "openai", lambda: 77.0)
    catalogue = Catalogue(resources.files("mana_llm").joinpath("catalogue.json").read_bytes)
    return Listing(registry, directory, catalogue), directory


def test_row_says_what_is_known_when_a_model_is_listed(tmp_path):
    """Context and abilities are the provider's own first, else the catalogue's; prices and shutdown are added."""

    async def main() -> None:
        async with gateway() as running:
            answer = await call(running.port, "GET /v1/models")
            rows = {row["id"]: row for row in answer.json["data"]}
            assert answer.json["object"] == "list"
            assert (
                rows["openai/gpt-4o-mini"].items()
                >= {
                    "object": "model",
                    "owned_by": "openai",
                    "context_window": 128000,
                    "max_completion_tokens": 16384,
                    "capabilities": ["completion", "pdf", "structured_output", "tools", "vision"],
                    "pricing": {
                        "input_usd_per_mtok": 0.15,
                        "cached_input_usd_per_mtok": 0.075,
                        "output_usd_per_mtok": 0.6,
                    },
                    "shutdown_date": "2027-01-14",
                }.items()
            )
            assert rows["ollama/qwen3:8b"]["capabilities"] == ["completion", "tools", "thinking"]
            assert "pricing" not in rows["ollama/qwen3:8b"]
            assert rows["mana/vision"]["description"] == "Text about images"
            one = await call(running.port, "GET /v1/models/openai/gpt-4o-mini")
            assert one.json == rows["openai/gpt-4o-mini"]

    uvloop.run(main())


def test_provider_is_believed_when_the_catalogue_says_otherwise():
    """What a provider says of its model wins over what is published."""
    made, _ = listing(openai=[Model("gpt-4o-mini", 5, 1234, ("completion",))])
    row = made.find("openai/gpt-4o-mini")
    assert (row.created, row.context_window, row.capabilities) == (5, 1234, ("completion",))
    assert row.shutdown_date == date(2027, 1, 14)


def test_capabilities_are_united_when_the_provider_tells_only_some():
    """A list that tells no more than what kind a model is, is completed by what is published."""
    made, _ = listing(openai=[Model("gpt-4o-mini", 5, 1234, ("audio", "completion"), can_more=True)])
    expected = ("audio", "completion", "pdf", "structured_output", "tools", "vision")
    assert made.find("openai/gpt-4o-mini").capabilities == expected


def test_alias_has_its_description_when_it_has_one():
    """Aliases come first, with their descriptions and the time at which they were loaded."""
    made, _ = listing(openai=[Model("x")])
    rows = made.rows()
    assert [(row.id, row.created, row.description) for row in rows] == [
        ("mana/a", 77, "For all"),
        ("mana/b", 77, None),
        ("openai/x", 0, None),
    ]
    assert made.body().startswith(b'{"object":"list","data":[{"id":"mana/a","created":77,')
    assert made.find("openai/y") is None


def test_body_follows_when_a_list_changes():
    """A new list is in the next answer; a provider without models leaves no comma behind."""
    made, lists = listing(openai=[Model("x")], google=[])
    before = made.body()
    assert made.body() is before
    lists.held["google"] = [Model("new")]
    assert b'"google/new"' in made.body()
    lists.held["google"] = []
    assert made.body() == before


def test_list_costs_nothing_when_there_are_thousands_of_models():
    """Serving 5,000 models again takes far less than a millisecond."""
    lists = {f"cloud{index}": [Model(f"vendor/model-{index}-{n}") for n in range(500)] for index in range(10)}
    made, _ = listing(**lists)
    assert made.body().count(b'"id"') == 5002
    assert min(timeit.repeat(made.body, number=10, repeat=5)) / 10 * 1000 < CALL_MS_MAX
