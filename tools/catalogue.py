"""Renews src/mana_llm/catalogue.json from a table of facts: `make catalogue SOURCE=path [DATE=2026-11-20]`.

The table has a JSON object per line; the first says where the numbers are from (`_`), every other is a model:

    {"provider", "model", "mode", "input_usd_per_mtok"?, "cached_usd_per_mtok"?, "output_usd_per_mtok"?,
     "context_tokens"?, "output_tokens_max"?, "can"?, "shutdown"?}

Numbers carry over as they are. Kept are the providers that the gateway has; a model that the table has twice is kept
as the later row says it. Then the vendors' own shutdown dates (tools/shutdowns.py) are laid over it.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from mana_llm.providers.registry import entries
from mana_llm.schema.models import Facts, FactsFile
from mana_llm.settings import Settings
from tools.shutdowns import SHUTDOWNS, SHUTDOWNS_SOURCE

TARGET: Final = Path(__file__).resolve().parents[1] / "src" / "mana_llm" / "catalogue.json"
# Theirs to ours; ours are the words of models lists. What has a price or a row of its own needs no word.
ABILITIES: Final = {
    "chat": "completion",
    "embedding": "embedding",
    "responses": "responses",
    "function_calling": "tools",
    "response_schema": "structured_output",
    "reasoning": "thinking",
    "vision": "vision",
    "audio_input": "audio",
    "pdf_input": "pdf",
}

Models = dict[str, dict[str, Facts]]


def catalogue(lines: Iterable[bytes], providers: Iterable[str], day: date) -> FactsFile:
    """The catalogue that a table makes, for these providers."""
    head, *rows = [msgspec.json.decode(line) for line in lines if line.strip()]
    models: Models = {name: {} for name in providers}
    for row in rows:
        if row["provider"] in models:
            models[row["provider"]][row["model"]] = _facts(row)
    for provider, dates in SHUTDOWNS.items():
        for name, shutdown in ((name, shutdown) for shutdown, names in dates.items() for name in names):
            known = models[provider].get(name, Facts())
            models[provider][name] = msgspec.structs.replace(known, shutdown=date.fromisoformat(shutdown))
    kept = {name: dict(sorted(rows.items())) for name, rows in sorted(models.items()) if rows}
    return FactsFile(f"{head['_']}. {SHUTDOWNS_SOURCE}", day, kept)


def written(file: FactsFile) -> str:
    """The file's text: a line per model, so that a renewal reads well as a difference."""
    providers = []
    for name, rows in file.models.items():
        lines = ",\n".join(f"{_json(model)}:{_json(facts)}" for model, facts in rows.items())
        providers.append(f"{_json(name)}:{{\n{lines}\n}}")
    models = ",\n".join(providers)
    return f'{{"source":{_json(file.source)},\n"date":"{file.date}",\n"models":{{\n{models}\n}}}}\n'


def main(source: str, day: str = "") -> None:
    """Write the catalogue made from the table at `source`, read on `day` (today), and say what is in it."""
    read_on = date.fromisoformat(day) if day else datetime.now(UTC).date()
    file = catalogue(Path(source).read_bytes().splitlines(), entries(Settings()), read_on)
    TARGET.write_text(written(file), encoding="utf-8")
    counts = Counter({name: len(rows) for name, rows in file.models.items()})
    kept = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    sys.stdout.write(f"{TARGET.name}: {counts.total()} models ({kept})\n")


def _facts(row: dict[str, Any]) -> Facts:
    members = {name: row[name] for name in Facts.__struct_fields__ if name in row}
    can = {ABILITIES[word] for word in (row["mode"], *row.get("can", ())) if word in ABILITIES}
    shutdown = date.fromisoformat(row["shutdown"]) if "shutdown" in row else None
    return Facts(**{**members, "can": tuple(sorted(can)), "shutdown": shutdown})


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    main(*sys.argv[1:])
