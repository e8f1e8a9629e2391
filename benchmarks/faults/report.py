"""The results as a table to read, and as JSON."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks.faults.card import Result
from benchmarks.faults.judge import Terms, due_words, saw_words, voice

_HEAD: Final = ("fault", "request", "due", "seen", "took s", "silence s", "verdict")


def rows_of(results: list[Result]) -> list[Sequence[str]]:
    """The table, its head first."""
    return [_HEAD, *(_row(result) for result in results)]


def as_text(results: list[Result]) -> str:
    """For a terminal, with the sum at the end."""
    rows = rows_of(results)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", total(results)])


def as_markdown(results: list[Result]) -> str:
    """For a page."""
    head, *rest = rows_of(results)
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *(f"| {' | '.join(row)} |" for row in rest)]
    return "\n".join(lines) + f"\n\n{total(results)}\n"


def as_json(results: list[Result], terms: Terms) -> dict[str, Any]:
    """All that is known of each row."""
    return {
        "terms": dataclasses.asdict(terms),
        "passed": all(result.verdict == "pass" for result in results),
        "rows": [
            {
                "fault": result.row.fault,
                "request": result.row.moment,
                "due": due_words(result.row.due),
                "verdict": result.verdict,
                "reason": result.reason,
                "took_s": round(result.cost_s, 4),
                "added_ms": None if result.added_ms is None else round(result.added_ms, 3),
                "voice": voice(result.seen),
                **{
                    key: round(value, 4) if isinstance(value, float) else value
                    for key, value in dataclasses.asdict(result.seen).items()
                },
            }
            for result in results
        ],
    }


def total(results: list[Result]) -> str:
    """How many faults were passed at every moment."""
    faults = dict.fromkeys(result.row.fault for result in results)
    failed = [name for name in faults if any(r.verdict != "pass" for r in _of(results, name))]
    said = f"{len(faults) - len(failed)} of {len(faults)} faults passed"
    return f"{said}; not: {', '.join(failed)}." if failed else f"{said}."


def _of(results: list[Result], fault: str) -> Iterable[Result]:
    return (result for result in results if result.row.fault == fault)


def _row(result: Result) -> Sequence[str]:
    seen, row = result.seen, result.row
    due = due_words(row.due) + (f" (x{row.times})" if row.times > 1 else "")
    took = f"{result.cost_s:.3f}" if result.cost_s >= 0 else "-"
    if result.added_ms is not None:
        took += f" ({result.added_ms:+.2f} ms)"
    verdict = f"{result.verdict}: {result.reason}" if result.reason else result.verdict
    return row.fault, row.moment, due, saw_words(seen), took, f"{seen.silence_s:.2f}", verdict
