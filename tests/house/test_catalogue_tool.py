"""The tool that renews the catalogue."""

import json
from datetime import date

import msgspec

from mana_llm.schema.models import Facts, FactsFile
from tests.house.tree import ROOT
from tools.catalogue import catalogue, written
from tools.shutdowns import SHUTDOWNS

DAY = date(2026, 1, 2)
NOBODY = ("openai", "google", "groq")


def table(*rows: dict) -> list[bytes]:
    return [json.dumps(row).encode() for row in ({"_": "from there"}, *rows)]


def test_catalogue_carries_numbers_over_when_the_table_has_them():
    """Prices, sizes and days stay as they are, abilities get our words, other providers are left out."""
    file = catalogue(
        table(
            {
                "provider": "groq", "model": "m", "mode": "chat", "input_usd_per_mtok": 0.1,
                "cached_usd_per_mtok": 0.0, "output_usd_per_mtok": 2, "context_tokens": 10, "output_tokens_max": 5,
                "can": ["function_calling", "reasoning", "response_schema", "prompt_caching"],
                "shutdown": "2026-03-04",
            },
            {"provider": "else", "model": "m", "mode": "chat"},
        ),
        NOBODY,
        DAY,
    )  # fmt: skip
    can = ("completion", "structured_output", "thinking", "tools")
    assert file.models["groq"] == {"m": Facts(0.1, 0.0, 2, 10, 5, can, date(2026, 3, 4))}
    assert "else" not in file.models
    assert file.source.startswith("from there. ")
    assert file.date == DAY


def test_catalogue_has_the_vendors_day_when_the_table_lacks_it():
    """A vendor's own shutdown date is laid over the table's row, or is all that is known."""
    rows = table({"provider": "openai", "model": "gpt-4o", "mode": "chat", "context_tokens": 7})
    models = catalogue(rows, NOBODY, DAY).models
    assert models["openai"]["gpt-4o"] == Facts(context_tokens=7, can=("completion",), shutdown=date(2027, 1, 14))
    assert models["google"]["gemini-2.0-flash"] == Facts(shutdown=date(2026, 6, 1))


def test_catalogue_is_the_same_when_it_is_read_back():
    """What is written is what was meant, a line per model."""
    file = catalogue(table({"provider": "groq", "model": 'a"b', "mode": "embedding"}), NOBODY, DAY)
    text = written(file)
    assert msgspec.json.decode(text, type=FactsFile) == file
    assert '\n"a\\"b":{"can":["embedding"]}\n' in text


def test_shipped_catalogue_is_the_tools_own_when_compared():
    """The kept file is written as the tool writes, and has the vendors' days."""
    text = (ROOT / "src" / "mana_llm" / "catalogue.json").read_text(encoding="utf-8")
    file = msgspec.json.decode(text, type=FactsFile)
    assert written(file) == text
    for provider, days in SHUTDOWNS.items():
        for day, names in days.items():
            assert {str(file.models[provider][name].shutdown) for name in names} == {day}
