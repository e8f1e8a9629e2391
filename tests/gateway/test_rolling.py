"""Gateways that are restarted one after the other behind a load balancer, under load: nobody notices."""

import asyncio
import itertools
import signal
import sys
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop

from mana_llm.simulator import Simulator
from tests.caller import Answer, begin_chat, chat
from tests.gateway.balancer import HAPROXY, Front, balancer, haproxy
from tests.process import Served, free_port, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

EXIT_S = 5.0
"""Beyond the drain: one second by itself, more on a busy machine."""
BEGUN_S = 30.0
LASTING = 16
"""So many streams that outlast a drain, and as many that do not; the balancer gives each gateway its part."""
LASTING_CHUNKS = 200


class Load(AbstractContextManager["Load"]):
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

    async def stream(self, chunks: int, pace_s: float) -> Answer:
        """One stream more, which is judged by whoever asked for it."""
        return await _tried(self._one(f"openai/sim.ok.chunks-{chunks}.pace-{pace_s}"))

    def __exit__(self, *_: object) -> None:
        # Where a test has failed, nobody else ends it.
        self._stopped.set()

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
            self.streams.append(await self.stream(chunks, 0.1))
            chunks = self._chunks

    async def _one(self, model: str) -> Answer:
        stream = await begin_chat(self._port, model, stream=True)
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


class Rolling(NamedTuple):
    """Two gateways that are restarted in turns, `times` in all; at some turns streams outlast the drain."""

    times: int
    load: dict[str, int]
    drain_s: float
    lasting_turns: tuple[int, ...]
    settings: dict[str, str]


async def rolled(folder: Path, before, rolling: Rolling) -> Load:
    """Restart gateways behind what `before` puts before them; streams that outlast a drain are judged here."""
    async with Simulator(host="127.0.0.1", port=0) as simulator, AsyncExitStack() as outer:
        gateways: dict[int, AsyncExitStack] = {}
        running: dict[int, Served] = {}

        async def begin(port: int) -> None:
            gateways[port] = await outer.enter_async_context(AsyncExitStack())
            running[port] = await gateways[port].enter_async_context(start(folder, simulator, port, **rolling.settings))

        ports = [free_port(), free_port()]
        for port in ports:
            await begin(port)
        async with before(ports) as front, asyncio.TaskGroup() as judges:
            for port in ports:
                await until_seen(front, port)
            under = outer.enter_context(Load(front.port, **rolling.load))
            for turn in range(rolling.times):
                port = ports[turn % 2]
                if turn in rolling.lasting_turns:
                    begun = asyncio.Event()
                    judges.create_task(lasting(under, simulator, rolling.drain_s, begun))
                    await begun.wait()
                running[port].process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(running[port].process.wait(), rolling.drain_s + EXIT_S) == 0
                await gateways[port].aclose()
                await begin(port)
                await until_seen(front, port)
            await under.end()
        return under


async def lasting(under: Load, simulator: Simulator, drain_s: float, begun: asyncio.Event) -> None:
    """Streams of seven tenths of a drain end whole. Of those that are longer, the one gateway's are whole, too; those
    of the one that is told to stop once they have begun get everything until the cut, and are told why it came.
    """
    loop = asyncio.get_running_loop()
    asked, known = f"chunks-{LASTING_CHUNKS}.", simulator.log[-1].number

    async def stream(pace_s: float) -> tuple[Answer, float]:
        began_at = loop.time()
        return await under.stream(LASTING_CHUNKS, pace_s), loop.time() - began_at

    async def streams(times: float) -> list[tuple[Answer, float]]:
        pace_s = round(times * drain_s / LASTING_CHUNKS, 4)
        return await asyncio.gather(*(stream(pace_s) for _ in range(LASTING)))

    async def seen() -> None:
        def count() -> int:
            # Asked at every change of a long log: only what is new is looked at.
            fresh = itertools.takewhile(lambda entry: entry.number > known, reversed(simulator.log))
            return sum(asked in entry.model and entry.bytes_sent > 0 for entry in fresh)

        await simulator.wait_until(lambda: count() == 2 * LASTING, BEGUN_S)
        begun.set()

    short, long, _ = await asyncio.gather(streams(0.7), streams(1.3), seen())
    judge_streams([answer for answer, _ in short])
    reference = short[0][0]
    cut = [(answer, took_s) for answer, took_s in long if "error" in answer.events[-2]]
    whole = [answer for answer, _ in long if "error" not in answer.events[-2]]
    assert cut
    judge_streams(whole)
    assert {len(answer.text) for answer in whole} <= {len(reference.text)}
    for answer, took_s in cut:
        *chunks, error, end = answer.events
        assert (error["error"]["code"], end, answer.complete) == ("server_shutting_down", "[DONE]", True)
        assert not any("error" in chunk for chunk in chunks)
        assert said(reference).startswith(said(answer))
        # They began before the gateway was told. By their pace it is three quarters; a busy provider is behind it.
        assert took_s >= drain_s
        assert len(answer.text) >= 0.4 * len(reference.text)


def said(answer: Answer) -> str:
    """A stream's text without its model's name."""
    return answer.text.partition(" heard: ")[2]


def judge(load: Load) -> None:
    """No plain request failed, and every stream came to its end."""
    assert len(load.answers) > 50
    failed = [(answer.status, answer.body[:500]) for answer in load.answers if answer.status != 200]
    assert not failed, (len(failed), failed[:3])
    judge_streams(load.streams)


def judge_streams(answers: list[Answer]) -> None:
    """Every one is whole."""
    assert {answer.status for answer in answers} <= {200}
    assert all(answer.complete and answer.events[-1] == "[DONE]" for answer in answers)
    assert not any("error" in event for answer in answers for event in answer.events)


def test_nothing_fails_when_gateways_are_restarted_in_turns(tmp_path):
    """R34 (3 of 20 restarts, 50 of 200 requests/s, 10 of 100 streams, drain 3 of 25 s): no request fails, every
    stream that ends within the drain finishes, longer ones get everything until the cut and are told why it came.
    """

    async def main() -> None:
        settings = {"MANA_LLM_DRAIN_S": "3", "MANA_LLM_DRAIN_ACCEPT_S": "0.5"}
        load = {"rate": 50, "streams": 10, "chunks": 5}
        judge(await rolled(tmp_path, balancer, Rolling(3, load, 3.0, (1,), settings)))

    uvloop.run(main())


@pytest.mark.long
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (Debian: apt-get install haproxy)")
def test_nothing_fails_when_gateways_are_restarted_twenty_times(tmp_path):
    """R34 (20 of 20 restarts behind haproxy, 200 requests/s, 100 streams, drain 25 s): no request fails, every stream
    that ends within the drain finishes, longer ones get everything until the cut and are told why it came.
    """

    async def main() -> None:
        load = {"rate": 200, "streams": 100, "chunks": 80}
        rolling = Rolling(20, load, 25.0, (4, 13), {})
        judge(await rolled(tmp_path, lambda ports: haproxy(tmp_path, ports), rolling))

    uvloop.run(main())
