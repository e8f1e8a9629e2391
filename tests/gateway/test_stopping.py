"""SIGTERM, on the real process: what runs may finish, what does not is told, and the end comes in time."""

import asyncio
import signal
import sys

import pytest
import uvloop

from tests.caller import begin_chat, call, chat
from tests.process import served

ENDLESS = "openai/sim.ok.chunks-100000.pace-0.02"
DRAIN_S = 1.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


def test_process_ends_in_time_when_a_stream_has_no_end(tmp_path):
    """R35 (1 of 1): SIGTERM with one endless stream: it gets an error event, and exit comes within drain + 1 s."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S=str(DRAIN_S)) as running:
            stream = await begin_chat(running.port, ENDLESS, stream=True)
            await stream.until_events(3)
            loop = asyncio.get_running_loop()
            told_at = loop.time()
            running.process.send_signal(signal.SIGTERM)
            answer = await stream.whole()
            code = await asyncio.wait_for(running.process.wait(), DRAIN_S + 2.0)
            assert DRAIN_S * 0.9 <= loop.time() - told_at <= DRAIN_S + 1.0
            assert code == 0
            *chunks, error, end = answer.events
            assert (error["error"]["code"], end, answer.complete) == ("server_shutting_down", "[DONE]", True)
            assert all("error" not in chunk for chunk in chunks)
            (entry,) = (entry for entry in running.simulator.log if entry.method == "POST")
            await running.simulator.wait_until(lambda: entry.ended == "client-closed")

    uvloop.run(main())


def test_process_ends_at_once_when_it_is_told_twice(tmp_path):
    """A second SIGTERM ends the drain: the stream is told, and the process is gone within a second."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="60") as running:
            stream = await begin_chat(running.port, ENDLESS, stream=True)
            await stream.until_events(1)
            running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                # The listening socket closes once the first signal has been taken.
                while True:
                    try:
                        await call(running.port, "GET /livez")
                    except OSError:
                        break
            running.process.send_signal(signal.SIGTERM)
            answer = await asyncio.wait_for(stream.whole(), 2.0)
            await asyncio.wait_for(running.process.wait(), 1.0)
            assert answer.events[-2]["error"]["code"] == "server_shutting_down"

    uvloop.run(main())


def test_stream_finishes_when_the_drain_is_long_enough(tmp_path):
    """A stream that ends within the drain ends as if nothing had happened, and the exit follows at once."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="30") as running:
            stream = await begin_chat(running.port, "openai/sim.ok.chunks-20.pace-0.02", stream=True)
            await stream.until_events(1)
            running.process.send_signal(signal.SIGTERM)
            answer = await stream.whole()
            assert answer.events[-1] == "[DONE]"
            assert not any("error" in event for event in answer.events)
            await asyncio.wait_for(running.process.wait(), 3.0)

    uvloop.run(main())


def test_process_ends_at_once_when_nothing_runs(tmp_path):
    """An idle gateway, with kept connections upstream, is gone within a second."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="30") as running:
            assert (await chat(running.port, "openai/sim.ok")).status == 200
            running.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(running.process.wait(), 1.0) == 0

    uvloop.run(main())
