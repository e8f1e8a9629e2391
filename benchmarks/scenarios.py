"""The scenarios, and how one is measured: gateway and nginx in turn, so that a busy machine is unfair to both."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final

from benchmarks import payloads
from benchmarks.load import check_answer, press, write_script
from benchmarks.processes import Process, free_ports
from benchmarks.stand import Stand
from benchmarks.streams import STREAMS, Delays, read_streams

WARM_S: Final = 1.0


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, seconds of load in each, and paced streams that each client reads in each."""

    rounds: int
    seconds: float
    streams: int


THOROUGH: Final = Effort(rounds=3, seconds=2.0, streams=3)
QUICK: Final = Effort(rounds=1, seconds=1.0, streams=1)


@dataclass(frozen=True)
class Scenario:
    """One kind of request under wrk. `provider` names who answers; `units` are the chunks of one answer, or 1."""

    name: str
    title: str
    provider: str
    body: bytes
    connections: int
    units: int = 1

    @property
    def unit(self) -> str:
        """What the CPU is divided by."""
        return "request" if self.units == 1 else "chunk"


@dataclass(frozen=True)
class Pair:
    """The two that are compared, on their ports, in front of the same provider."""

    gateway: tuple[Process, int]
    nginx: tuple[Process, int]


Sample = dict[str, float]
Figures = dict[str, dict[str, float | list[float]]]


def scenarios() -> list[Scenario]:
    """All that wrk can load, lightest first: the memory of a gateway that has seen images tells of nothing else."""
    plain, stream, image = payloads.plain_request(), payloads.plain_request(stream=True), payloads.image_request()
    chunks = payloads.STREAM_CHUNKS
    return [
        Scenario("plain-32", "plain, 32 connections", "plain", plain, 32),
        Scenario("plain-1", "plain, 1 connection", "plain", plain, 1),
        Scenario("batched-32", f"stream of {chunks} in one piece, 32 connections", "batched", stream, 32, chunks),
        Scenario("batched-1", f"stream of {chunks} in one piece, 1 connection", "batched", stream, 1, chunks),
        Scenario("image-1", "2 MB image, 1 connection", "image", image, 1),
        Scenario("image-32", "2 MB image, 32 connections", "image", image, 32),
    ]


@contextlib.contextmanager
def pair(stand: Stand, upstream: int, *, streams: bool) -> Iterator[Pair]:
    """Gateway and nginx, ready."""
    gateway_port, nginx_port = free_ports(2)
    with (
        stand.gateway(gateway_port, upstream) as gateway,
        stand.proxy(nginx_port, upstream, streams=streams) as nginx,
    ):
        gateway.until_ready(gateway_port, "/livez")
        nginx.until_ready(nginx_port, "/livez")
        yield Pair((gateway, gateway_port), (nginx, nginx_port))


def measure(stand: Stand, both: Pair, scenario: Scenario, effort: Effort) -> Figures:
    """The figures of one scenario: CPU microseconds per unit, units per second, latency in milliseconds."""
    script = write_script(stand.folder, scenario.name, scenario.body)
    expected = payloads.DONE if scenario.units > 1 else b'"finish_reason":"stop"'

    def sample(process: Process, port: int, seconds: float) -> Sample:
        before_s = process.cpu_s()
        load = press(port, script, scenario.connections, seconds, stand.load_core)
        units = load.requests * scenario.units
        return {
            "cpu_us": (process.cpu_s() - before_s) * 1e6 / units,
            "per_s": units / load.duration_s,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
        }

    for process, port in (both.nginx, both.gateway):
        check_answer(port, scenario.body, expected)
        sample(process, port, WARM_S)
    return in_turn(
        {
            "nginx": lambda: sample(*both.nginx, effort.seconds),
            "gateway": lambda: sample(*both.gateway, effort.seconds),
        },
        effort.rounds,
    )


def measure_paced(both: Pair, direct_port: int, effort: Effort) -> Figures:
    """The figures of paced streams: CPU microseconds per chunk, and delays in milliseconds, without anything between
    as well: what the gateway adds is the difference.
    """

    def sample(process: Process | None, port: int) -> Sample:
        before_s = process.cpu_s() if process else 0.0
        delays = read_streams(port, effort.streams)
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


def paced_title() -> str:
    """What the paced scenario is called."""
    return f"{STREAMS} paced streams of {payloads.STREAM_CHUNKS}"


def in_turn(targets: Mapping[str, Callable[[], Sample]], rounds: int) -> Figures:
    """One sample of each target per round. For each target the median of each figure, and all and the least of the
    CPU; under `ratio` the gateway's CPU over nginx's, each from neighbouring samples.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, take in targets.items():
            samples[name].append(take())
    figures: Figures = {}
    for name, taken in samples.items():
        figures[name] = {key: median(each[key] for each in taken) for key in taken[0]}
        if "cpu_us" in taken[0]:
            figures[name] |= _spread([each["cpu_us"] for each in taken])
    # A run can be too short for the accounting to see nginx at work at all.
    pairs = [
        ours["cpu_us"] / theirs["cpu_us"]
        for theirs, ours in zip(samples["nginx"], samples["gateway"], strict=True)
        if theirs["cpu_us"]
    ]
    figures["ratio"] = {"cpu": median(pairs), "cpu_rounds": pairs, "cpu_min": min(pairs)} if pairs else {}
    return figures


def _spread(values: list[float]) -> dict[str, float | list[float]]:
    return {"cpu_us_min": min(values), "cpu_us_rounds": values}


def _delays(delays: Delays) -> Sample:
    found = {}
    for name, values in (("first", delays.first), ("chunk", delays.chunks), ("gap", delays.gaps)):
        hundredths = quantiles(values, n=100, method="inclusive")
        found |= {f"{name}_p50_ms": hundredths[49], f"{name}_p99_ms": hundredths[98]}
    return found
