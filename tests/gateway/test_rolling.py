"""Gateways that are restarted one after the other behind a load balancer, under load: nobody notices."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from mana_llm.simulator import Simulator
from tests.caller import Answer, begin_chat, chat
from tests.gateway.balancer import HAPROXY, Front, balancer, haproxy
from tests.process import Served, free_port, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

STREAM = "openai/sim.ok.chunks-{chunks}.pace-0.1"


class Load:
    """Plain requests at a steady rate, and so many streams at any time; everything that came back is kept."""

    def __init__(self, port: int, rate: float, streams: int, chunks: int) -> None:
        self.answers: list[Answer] = []
        self.streams: list[Answer] = []
        self._port, self._rate = port, rate
        self._chunks = chunks
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        for first in range(streams):
            self._spawn(self._stream(1 + first * chunks // streams))
        self._spawn(self._plain())

    async def end(self) -> None:
        """Send nothing more, and wait for what is under way."""
        self._stopped.set()
        while self._running:
            await asyncio.wait(self._running)

    def _spawn(self, work) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _plain(self) -> None:
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        while not self._stopped.is_set():
            while sent < (loop.time() - began) * self._rate:
                sent += 1
                self._spawn(self._ask())
            await asyncio.sleep(1 / self._rate)

    async def _ask(self) -> None:
        self.answers.append(await _tried(chat(self._port, "openai/sim.ok")))

    async def _stream(self, chunks: int) -> None:
        # The first ones are of different lengths, so that later ones do not all begin together.
        while not self._stopped.is_set():
            self.streams.append(await _tried(self._one(chunks)))
            chunks = self._chunks

    async def _one(self, chunks: int) -> Answer:
        stream = await begin_chat(self._port, STREAM.format(chunks=chunks), stream=True)
        try:
            return await stream.whole()
        finally:
            stream.close()


async def _tried(work) -> Answer:
    try:
        return await asyncio.wait_for(work, 60)
    except (OSError, TimeoutError):
        # Status 0: whatever it was, it was no answer.
        return Answer()


async def until_seen(front: Front, port: int) -> None:
    """Until the balancer sends requests to this one: before that, no orchestrator stops the next."""
    async with asyncio.timeout(20):
        while not await front.sees(port):  # noqa: ASYNC110 - a balancer has no event for it
            await asyncio.sleep(0.02)


async def rolled(folder: Path, before, load: dict[str, int], times: int, **settings: str) -> Load:
    """Restart two gateways in turns, so often in all, behind what `before` puts before them."""
    async with Simulator(host="127.0.0.1", port=0) as simulator, AsyncExitStack() as outer:
        gateways: dict[int, AsyncExitStack] = {}
        running: dict[int, Served] = {}

        async def begin(port: int) -> None:
            gateways[port] = await outer.enter_async_context(AsyncExitStack())
            running[port] = await gateways[port].enter_async_context(start(folder, simulator, port, **settings))

        ports = [free_port(), free_port()]
        for port in ports:
            await begin(port)
        async with before(ports) as front:
            for port in ports:
                await until_seen(front, port)
            under = Load(front.port, **load)
            for turn in range(times):
                port = ports[turn % 2]
                running[port].process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(running[port].process.wait(), 40) == 0
                await gateways[port].aclose()
                await begin(port)
                await until_seen(front, port)
            await under.end()
        return under


def judge(load: Load) -> None:
    """No plain request failed, and every stream came to its end."""
    assert len(load.answers) > 50
    assert {answer.status for answer in load.answers} == {200}
    assert {answer.status for answer in load.streams} == {200}
    assert all(answer.events[-1] == "[DONE]" for answer in load.streams)
    assert not any("error" in event for answer in load.streams for event in answer.events)


def test_nothing_fails_when_gateways_are_restarted_in_turns(tmp_path):
    """R34 (3 of 20 restarts, 50 of 200 requests/s, 10 of 100 streams): no request fails, every stream finishes."""

    async def main() -> None:
        load = {"rate": 50, "streams": 10, "chunks": 10}
        settings = {"MANA_LLM_DRAIN_S": "20", "MANA_LLM_DRAIN_ACCEPT_S": "0.5"}
        judge(await rolled(tmp_path, balancer, load, 3, **settings))

    uvloop.run(main())


@pytest.mark.long
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (Debian: apt-get install haproxy)")
def test_nothing_fails_when_gateways_are_restarted_twenty_times(tmp_path):
    """R34 (20 of 20 restarts behind haproxy, 200 requests/s, 100 streams of 8 s): no request fails, no stream breaks.

    What becomes of a stream that is longer than the drain is R35.
    """

    async def main() -> None:
        load = {"rate": 200, "streams": 100, "chunks": 80}
        judge(await rolled(tmp_path, lambda ports: haproxy(tmp_path, ports), load, 20))

    uvloop.run(main())
