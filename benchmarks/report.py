"""The results as tables to read and as files to keep."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
LATEST: Final = FOLDER / "latest.json"
SAVED: Final = FOLDER / "results.json"
SAVED_TEXT: Final = FOLDER / "RESULTS.md"

_COSTS: Final = ("CPU", "per", "gateway us", "least", "nginx us", "least", "ratio", "least", "per s", "p50 ms", "p99")
_DELAYS: Final = ("direct", "nginx", "gateway", "gateway adds")
_JUDGED: Final = ("budget", "figure", "at most", "verdict")

_INTRODUCTION: Final = """\
# Results

Written by `make bench` with `--save` (`.venv/bin/python -m benchmarks --save`); figures with all rounds are in
`results.json`.

Gateway and nginx `proxy_pass` are measured in turn on one core; load and provider have the other. CPU is what the
processes' own accounting says (utime + stime of all processes, user and kernel), divided by what was answered: the
median of the rounds, and the least. The ratio is taken within each round. The gateway runs as `mana-llm serve`, with
authentication, health and metrics on; latencies and rates are the gateway's.
"""


def tables(results: dict[str, Any]) -> list[list[Sequence[str]]]:
    """Each table as rows of words, the first of them its head."""
    scenarios = results["scenarios"]
    made = [[_COSTS, *(_cost(each) for each in scenarios.values())]]
    paced = [each for each in scenarios.values() if "direct" in each]
    made.extend([(f"{each['title']}: ms", *_DELAYS), *_delays(each)] for each in paced)
    made.append([("process", "figure"), *_process(results["process"])])
    made.append([_JUDGED, *(_verdict(each) for each in results["budget"])])
    return made


def as_text(results: dict[str, Any]) -> str:
    """The tables for a terminal."""
    return "\n\n".join("\n".join(_aligned(rows)) for rows in tables(results))


def keep(results: dict[str, Any], *, save: bool) -> list[Path]:
    """Write the files, the committed ones too if `save`; gives what was written."""
    text = json.dumps(_rounded(results), indent=2) + "\n"
    written = [LATEST, SAVED] if save else [LATEST]
    for path in written:
        path.write_text(text, encoding="utf-8")
    if save:
        SAVED_TEXT.write_text(_markdown(results), encoding="utf-8")
        written.append(SAVED_TEXT)
    return written


def _cost(scenario: dict[str, Any]) -> Sequence[str]:
    gateway, nginx, ratio = scenario["gateway"], scenario["nginx"], scenario["ratio"]
    return (
        scenario["title"],
        scenario["unit"],
        *(_short(each.get(key)) for each in (gateway, nginx) for key in ("cpu_us", "cpu_us_min")),
        *(_short(ratio.get(key)) for key in ("cpu", "cpu_min")),
        *(_short(gateway.get(key)) for key in ("per_s", "p50_ms", "p99_ms")),
    )


def _delays(paced: dict[str, Any]) -> Iterable[Sequence[str]]:
    names = {"first": "request to first content", "chunk": "chunk under way", "gap": "between two chunks"}
    for key, title in names.items():
        for part in ("p50", "p99"):
            direct, nginx, gateway = (paced[who][f"{key}_{part}_ms"] for who in ("direct", "nginx", "gateway"))
            yield (f"{title}, {part}", *(f"{value:.2f}" for value in (direct, nginx, gateway, gateway - direct)))


def _process(process: dict[str, float]) -> Iterable[Sequence[str]]:
    titles = {
        "ready_s": "start to first answer, s",
        "help_s": "`mana-llm --help`, s",
        "rss_idle_mb": "memory, idle, MB",
        "rss_plain_mb": "memory after plain requests, MB",
        "rss_batched_mb": "memory after streams in one piece, MB",
        "rss_image_mb": "memory after 2 MB images, MB",
        "rss_paced_mb": "memory after paced streams, MB",
    }
    return [(title, _short(process[key])) for key, title in titles.items() if key in process]


def _verdict(judged: dict[str, Any]) -> Sequence[str]:
    unit = judged["unit"]
    return judged["title"], f"{_short(judged['figure'])} {unit}", f"{judged['most']:g} {unit}", judged["verdict"]


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row, widths, strict=True))]
        yield "  ".join([cells[0], *cells[2:]])


def _markdown(results: dict[str, Any]) -> str:
    machine = results["machine"]
    cores = f"{machine['cores']} cores (load average {machine['load_average']} before)"
    system = f"Linux {machine['kernel']}, Python {machine['python']}"
    where = f"{results['made']}, `{results['command']}`: {machine['cpu']}, {cores}, {system}.\n"
    return "\n".join([_INTRODUCTION, where, *("\n".join(_piped(rows)) + "\n" for rows in tables(results))])


def _piped(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    head, *rest = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' + ' ---: |' * (len(head) - 1)}"
    for row in rest:
        yield f"| {' | '.join(row)} |"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
