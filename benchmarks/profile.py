"""Where the gateway spends its time under one scenario, sampled by py-spy."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.load import press, write_script
from benchmarks.paced import PACED_CLIENTS
from benchmarks.scenarios import Scenario, pair, scenarios
from benchmarks.stand import Stand
from benchmarks.streams import read_streams

LINES: Final = 25
_SECONDS: Final = 6
_PACED_EACH: Final = 8
_PER_S: Final = 400
_WARM_S: Final = 1
_OURS: Final = "(mana_llm/"


def names() -> list[str]:
    """The scenarios that can be profiled."""
    return [*(each.name for each in scenarios()), *PACED_CLIENTS]


def run(name: str) -> str:
    """The functions in which most samples fell, themselves and with what they call.

    Raises:
        UnfitError: if py-spy, or what the benchmark itself needs, is missing.
    """
    machine.check()
    program = shutil.which("py-spy")
    if program is None:
        raise machine.UnfitError("py-spy is missing: pip install py-spy, and have it on PATH.")
    cores = machine.cores()
    os.sched_setaffinity(0, {cores[0]})
    provider = "paced" if name in PACED_CLIENTS else _scenario(name).provider
    with tempfile.TemporaryDirectory(prefix="mana-llm-bench-") as folder:
        stand = Stand(Path(folder), cores)
        with stand.provider() as ports, pair(stand, ports[provider], streams=provider != "image") as both:
            process, port = both.gateway
            loading = threading.Thread(target=_load, args=(stand, port, name))
            loading.start()
            try:
                return _table(_sampled(program, process.pid, Path(folder) / "samples"))
            finally:
                loading.join()


def _scenario(name: str) -> Scenario:
    return next(each for each in scenarios() if each.name == name)


def _load(stand: Stand, port: int, name: str) -> None:
    if name in PACED_CLIENTS:
        read_streams(port, PACED_CLIENTS[name], _PACED_EACH)
        return
    scenario = _scenario(name)
    script = write_script(stand.folder, scenario.name, scenario.body)
    press(port, script, scenario.connections, _SECONDS + 2 * _WARM_S, stand.load_core)


def _sampled(program: str, pid: int, output: Path) -> str:
    options = ["--native", "-r", str(_PER_S), "-d", str(_SECONDS), "-f", "raw", "-o", str(output), "-p", str(pid)]
    subprocess.run([program, "record", *options], check=True, capture_output=True)
    return output.read_text(encoding="utf-8")


def _table(samples: str) -> str:
    """Each line of `samples` is `outer;...;inner count`."""
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        alone[frames[-1]] += int(count)
        for frame in {_without_line(frame) for frame in frames if _OURS in frame}:
            within[frame] += int(count)
    total = alone.total() or 1
    parts = []
    for title, counts in (("itself", alone), ("ours, with what it calls", within)):
        rows = [f"{count / total:6.1%}  {frame}" for frame, count in counts.most_common(LINES)]
        parts.append("\n".join([f"{title}, share of {total} samples", *rows]))
    return "\n\n".join(parts)


def _without_line(frame: str) -> str:
    """`f (file.py:3)` as `f (file.py)`."""
    return frame.rpartition(":")[0] + ")"
