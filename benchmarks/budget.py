"""The performance budget (design, section 5), and whether a run keeps it."""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Limit:
    """A figure may be at most `most`; `place` is where it is in the results."""

    title: str
    place: tuple[str, ...]
    most: float
    unit: str
    informative: bool = False


_PLAIN: Final = ("scenarios", "plain-32")

BUDGET: Final = (
    Limit("plain request, CPU", (*_PLAIN, "gateway", "cpu_us"), 80.0, "us"),
    Limit("plain request, CPU beside nginx's", (*_PLAIN, "ratio", "cpu"), 6.0, "x"),
    Limit("plain request, p99 at 32 connections", (*_PLAIN, "gateway", "p99_ms"), 5.0, "ms", informative=True),
    Limit("chunk, stream in one piece, CPU", ("scenarios", "batched-32", "gateway", "cpu_us"), 9.0, "us"),
    Limit("chunk, 20 paced streams, CPU", ("scenarios", "paced-20", "gateway", "cpu_us"), 9.0, "us"),
    Limit("chunk, 100 paced streams, CPU", ("scenarios", "paced-100", "gateway", "cpu_us"), 9.0, "us"),
    Limit("2 MB image, CPU beside nginx's", ("scenarios", "image-1", "ratio", "cpu"), 10.0, "x"),
    Limit("2 MB image for Ollama, CPU beside nginx's", ("scenarios", "image-ollama", "ratio", "cpu"), 15.0, "x"),
    Limit("2 MB image for Gemini, CPU beside nginx's", ("scenarios", "image-gemini", "ratio", "cpu"), 15.0, "x"),
    Limit("start to first answer", ("process", "ready_s"), 0.5, "s"),
    Limit("memory, idle", ("process", "rss_idle_mb"), 60.0, "MB"),
    Limit("memory, after plain requests", ("process", "rss_plain_mb"), 60.0, "MB"),
)


def judge(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Each limit with the figure of this run and a verdict: `pass`, `miss`, or `none` if it was not measured."""
    return [_judged(limit, _figure(results, limit.place)) for limit in BUDGET]


def _judged(limit: Limit, figure: float | None) -> dict[str, Any]:
    verdict = "none" if figure is None else "pass" if figure <= limit.most else "miss"
    note = " (informative)" if limit.informative else ""
    return {"title": limit.title + note, "figure": figure, "most": limit.most, "unit": limit.unit, "verdict": verdict}


def _figure(results: dict[str, Any], place: tuple[str, ...]) -> float | None:
    found: Any = results
    for name in place:
        found = found.get(name, {})
    return found if isinstance(found, float) else None
