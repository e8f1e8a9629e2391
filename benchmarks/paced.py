"""Streams whose chunks come one by one, each to be relayed at once: their CPU and what the gateway adds in time."""

from statistics import quantiles
from typing import Final

from benchmarks import payloads
from benchmarks.load import check_answer
from benchmarks.mocks import PACE_S
from benchmarks.processes import Process
from benchmarks.rounds import Effort, Figures, Sample, in_turn
from benchmarks.scenarios import Pair
from benchmarks.streams import Delays, read_streams

PACED_CLIENTS: Final = {"paced-20": 20, "paced-100": 100}
"""Clients at a time. Twenty leave the gateway idle between chunks: what it adds in time, and the CPU of waking for
each chunk. A hundred keep a fifth to a half of a core busy, which is where the CPU of a chunk matters.
"""


def title(name: str) -> str:
    """What the scenario is called."""
    return f"{PACED_CLIENTS[name]} streams, a chunk every {PACE_S * 1e3:g} ms"


def measure_paced(both: Pair, direct_port: int, name: str, effort: Effort) -> Figures:
    """CPU microseconds per chunk, and delays in milliseconds: of the gateway, of nginx, and with nothing between."""

    def sample(process: Process | None, port: int) -> Sample:
        before_s = process.cpu_s() if process else 0.0
        delays = read_streams(port, PACED_CLIENTS[name], effort.streams)
        if process is None:
            return _delays(delays)
        return {"cpu_us": (process.cpu_s() - before_s) * 1e6 / len(delays.chunks), **_delays(delays)}

    for _, port in (both.nginx, both.gateway):
        check_answer(port, payloads.plain_request(stream=True), payloads.DONE)
    return in_turn(
        {
            "direct": lambda: sample(None, direct_port),
            "nginx": lambda: sample(*both.nginx),
            "gateway": lambda: sample(*both.gateway),
        },
        effort.rounds,
    )


def _delays(delays: Delays) -> Sample:
    found: Sample = {}
    for name, values in (("first", delays.first), ("chunk", delays.chunks), ("gap", delays.gaps)):
        hundredths = quantiles(values, n=100, method="inclusive")
        found |= {f"{name}_p50_ms": hundredths[49], f"{name}_p99_ms": hundredths[98]}
    return found
