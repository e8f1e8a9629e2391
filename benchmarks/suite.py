"""Everything that `make bench` measures, in one run."""

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.paced import PACED_CLIENTS, measure_paced, title
from benchmarks.rounds import QUICK, THOROUGH, Effort
from benchmarks.scenarios import measure, pair, scenarios, warm
from benchmarks.stand import Stand
from benchmarks.startup import STARTS, measure_startup

COMMAND: Final = "make bench"
Say = Callable[[str], None]


def run(say: Say, *, quick: bool) -> dict[str, Any]:
    """The results, as they are kept; `say` is told what is being measured.

    Raises:
        UnfitError: if this machine cannot measure; ProcessError: if something did not work.
    """
    machine.check()
    cores = machine.cores()
    # We load too, and every moment of ours on the gateway's core would be taken from it.
    os.sched_setaffinity(0, {cores[0]})
    results: dict[str, Any] = {
        "command": f"{COMMAND} (quick)" if quick else COMMAND,
        "made": datetime.now(UTC).date().isoformat(),
        "machine": machine.description(),
        "scenarios": {},
    }
    effort = QUICK if quick else THOROUGH
    with tempfile.TemporaryDirectory(prefix="mana-llm-bench-") as folder:
        stand = Stand(Path(folder), cores)
        with stand.provider() as ports:
            say("start-up")
            results["process"] = measure_startup(stand, ports["plain"], 1 if quick else STARTS)
            _measure_all(stand, ports, effort, results, say)
    return results


def _measure_all(stand: Stand, ports: dict[str, int], effort: Effort, results: dict[str, Any], say: Say) -> None:
    for provider, group in groupby(scenarios(), key=lambda each: each.provider):
        each_of_group = list(group)
        with pair(stand, ports[provider], streams=provider == "batched") as both:
            warm(stand, both, each_of_group[0])
            for each in each_of_group:
                say(each.title)
                figures = measure(stand, both, each, effort)
                results["scenarios"][each.name] = {"title": each.title, "unit": each.unit, **figures}
            results["process"][f"rss_{provider}_mb"] = both.gateway[0].rss_mb()
    with pair(stand, ports["paced"], streams=True) as both:
        for name in PACED_CLIENTS:
            say(title(name))
            figures = measure_paced(both, ports["paced"], name, effort)
            results["scenarios"][name] = {"title": title(name), "unit": "chunk", **figures}
        results["process"]["rss_paced_mb"] = both.gateway[0].rss_mb()
