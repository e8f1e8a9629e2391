"""The scenarios that wrk loads, and how one is measured: gateway and nginx in turn."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks import payloads
from benchmarks.load import check_answer, press, write_script
from benchmarks.processes import Process, free_ports
from benchmarks.rounds import Effort, Figures, Sample, in_turn
from benchmarks.stand import Stand

_WARM_S: Final = 1


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


def scenarios() -> list[Scenario]:
    """All that wrk can load, lightest first: the memory of a gateway that has seen images tells of nothing else."""
    plain, stream, image = payloads.plain_request(), payloads.plain_request(stream=True), payloads.image_request()
    for_ollama, for_gemini = map(payloads.image_request, (payloads.OLLAMA_MODEL, payloads.GEMINI_MODEL))
    chunks = payloads.STREAM_CHUNKS
    return [
        Scenario("plain-32", "plain, 32 connections", "plain", plain, 32),
        Scenario("plain-1", "plain, 1 connection", "plain", plain, 1),
        Scenario("batched-32", f"stream of {chunks} in one piece, 32 connections", "batched", stream, 32, chunks),
        Scenario("batched-1", f"stream of {chunks} in one piece, 1 connection", "batched", stream, 1, chunks),
        Scenario("image-1", "2 MB image, 1 connection", "image", image, 1),
        Scenario("image-32", "2 MB image, 32 connections", "image", image, 32),
        Scenario("image-ollama", "2 MB image for Ollama, 1 connection", "image", for_ollama, 1),
        Scenario("image-gemini", "2 MB image for Gemini, 1 connection", "image", for_gemini, 1),
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


def warm(stand: Stand, both: Pair, scenario: Scenario) -> None:
    """Load both for a moment, so that what is filled at first use is filled."""
    script = write_script(stand.folder, scenario.name, scenario.body)
    for _, port in (both.nginx, both.gateway):
        press(port, script, scenario.connections, _WARM_S, stand.load_core)


def measure(stand: Stand, both: Pair, scenario: Scenario, effort: Effort) -> Figures:
    """The figures of one scenario: CPU microseconds per unit, units per second, latency in milliseconds."""
    script = write_script(stand.folder, scenario.name, scenario.body)
    expected = payloads.DONE if scenario.units > 1 else b'"finish_reason":"stop"'

    def sample(process: Process, port: int, seconds: int) -> Sample:
        before_s = process.cpu_s()
        load = press(port, script, scenario.connections, seconds, stand.load_core)
        units = load.requests * scenario.units
        return {
            "cpu_us": (process.cpu_s() - before_s) * 1e6 / units,
            "per_s": units / load.duration_s,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
        }

    for _, port in (both.nginx, both.gateway):
        check_answer(port, scenario.body, expected)
    return in_turn(
        {
            "nginx": lambda: sample(*both.nginx, effort.seconds),
            "gateway": lambda: sample(*both.gateway, effort.seconds),
        },
        effort.rounds,
    )
