"""Upstreams that send far too much: a clean error, or backpressure, and never the gateway's memory."""

import asyncio
import json
import subprocess
import sys

import pytest
import uvloop

from tests.caller import begin_chat, call, chat
from tests.process import served

MIB = 1024 * 1024
GROWTH_BYTES_MAX = 32 * MIB


async def flooded(folder, model: str, events: int | None = None):
    """The last events of a flood, and how much memory it took; `events` is when the client has had enough."""
    async with served(folder) as running:
        for warming in ("openai/sim.ok", "ollama/sim.ok", "google/sim.ok"):
            await chat(running.port, warming, stream=True)
        before = running.rss_bytes()
        stream = await begin_chat(running.port, model, stream=True)
        if events is None:
            answer = await stream.whole()
        else:
            await stream.until_events(events)
            answer = stream.answer
            stream.reset()
            chats = [entry for entry in running.simulator.log if entry.method == "POST"]
            await running.simulator.wait_until(lambda: chats[-1].ended == "client-closed")
        grown = running.rss_bytes_max() - before
        assert (await call(running.port, "GET /readyz")).status == 200
        return answer, grown


@pytest.mark.parametrize(
    ("model", "events"),
    [
        ("openai/sim.flood.how-line", None),
        ("ollama/sim.flood.how-line", None),
        ("google/sim.flood.how-line", None),
        ("openai/sim.flood.how-event.size-104857600", None),
        ("openai/sim.flood.how-chunks", 20_000),
    ],
)
def test_memory_stays_when_an_upstream_floods(model, events, tmp_path):
    """R11 (2 of 3): an endless line and a 100 MiB event end in a clean error within 32 MiB; tiny chunks flow."""

    async def main() -> None:
        answer, grown = await flooded(tmp_path, model, events)
        assert grown <= GROWTH_BYTES_MAX, f"{grown / MIB:.1f} MiB"
        if events is None:
            *_, error, end = answer.events
            assert (error["error"]["code"], end, answer.complete) == ("provider_protocol", "[DONE]", True)
            assert "8388608 bytes" in error["error"]["message"]
        else:
            assert answer.event_count >= events
            assert json.loads(answer.body.split(b"\n\n")[-2].removeprefix(b"data: "))["choices"]

    uvloop.run(main())


def test_memory_is_bounded_when_a_whole_answer_unpacks_to_too_much(tmp_path):
    """A plain answer that unpacks to 256 MiB is cut off at its limit, as a 503."""

    async def main() -> None:
        async with served(tmp_path) as running:
            await chat(running.port, "openai/sim.ok")
            answer = await chat(running.port, "openai/sim.gzip.how-bomb.size-268435456")
            assert (answer.status, answer.error["attempts"][0]["reason"]) == (503, "ProviderProtocolError")
            assert running.rss_bytes_max() < 300 * MIB

    uvloop.run(main())


# Asks /readyz a hundred times on one connection, once told to, and prints how long each took.
ASKER = """
import http.client, json, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
def ask():
    began = time.perf_counter()
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b'{"status":"ready"}')
    return time.perf_counter() - began
ask()
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps([ask() for _ in range(100)]))
"""


@pytest.mark.long
def test_gateway_stays_quick_when_many_large_streams_are_dropped_at_once(tmp_path):
    """R9 (30 of 30): 30 streams of 5 MiB dropped at once: /readyz p99 is 20 ms, and nothing lags 25 ms.

    A busy machine holds everybody up now and then; a gateway that lagged would do so in all of three tries.
    """

    async def drop(running) -> list[float]:
        model = "openai/sim.ok.bytes-5242880.chunks-500"
        streams = [await begin_chat(running.port, model, stream=True) for _ in range(30)]
        for stream in streams:
            await stream.until_events(2)
            stream.stop_reading()
        # Asked from a process of its own: this one is busy with the simulator's end of thirty resets.
        asker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ASKER, str(running.port), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        await asker.stdout.readline()
        for stream in streams:
            stream.reset()
        said, _ = await asker.communicate(b"go\n")
        waits_s = json.loads(said)
        chats = [entry for entry in running.simulator.log if entry.method == "POST"]
        await running.simulator.wait_until(lambda: all(entry.ended != "open" for entry in chats))
        return sorted(waits_s)

    async def main() -> None:
        async with served(tmp_path) as running:
            tries = [await drop(running) for _ in range(3)]
            # Asked again and again, a loop that lagged would have made one of them wait.
            assert any(waits_s[98] <= 0.020 and waits_s[-1] <= 0.025 for waits_s in tries)

    uvloop.run(main())
