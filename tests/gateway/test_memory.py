"""More large bodies at once than there is memory for: some are told to come again, and the process lives."""

import asyncio
import collections
import json
import re
import sys

import pytest
import uvloop

from tests.caller import Answer, begin, body_for, call, chat, counted
from tests.gateway.staged import whole
from tests.process import Served, served
from tests.puppet import puppet, request_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc, and limited there")

MIB = 1 << 20
BOUND = 160 * MIB
SLACK = 16 * MIB
"""What may be beyond the bound: what one turn of the loop reads and writes."""
ANSWERED_S = 60.0
CHAT = "POST /v1/chat/completions"
TOLD = re.compile(r"turned away for want of memory: (\d+) within a second")


def body_of(model: str, size: int) -> bytes:
    """A chat request of `size` bytes, with an image."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    asked = {"model": model, "messages": [{"role": "user", "content": [image]}]}
    image["image_url"]["url"] += "A" * (size - len(json.dumps(asked)))
    return json.dumps(asked).encode()


async def post(port: int, body: bytes) -> Answer:
    """Send a large request and read its answer; one that is refused may be cut while it still sends."""
    exchange = await begin(port, CHAT, body)
    try:
        async with asyncio.timeout(ANSWERED_S):
            return await exchange.whole()
    finally:
        exchange.close()


class Patient:
    """An upstream that answers nobody until `open` is set."""

    def __init__(self) -> None:
        self.here = 0
        self.open = asyncio.Event()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await request_of(reader)
        if head.startswith(b"POST "):
            self.here += 1
            await self.open.wait()
        writer.write(whole("here you are"))
        await writer.drain()


async def cpu_share(running: Served, window_s: float) -> float:
    """The part of a core that the gateway takes meanwhile."""
    loop = asyncio.get_running_loop()
    began, cpu_s = loop.time(), running.cpu_s()
    await asyncio.sleep(window_s)
    return (running.cpu_s() - cpu_s) / (loop.time() - began)


async def shed(port: int) -> float:
    return counted((await call(port, "GET /metrics")).body, "mana_llm_shed_total", reason="memory")


def check_sheds(answers: list[Answer]) -> int:
    """Every answer is whole, a 200 or a 503 that says when to come again; how many of these there are."""
    turned_away = [answer for answer in answers if answer.status != 200]
    for answer in turned_away:
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    return len(turned_away)


def lines_told(running: Served, elapsed_s: float) -> int:
    """What all the lines together tell of, of which there is one a second at most."""
    text = running.said.read_text(encoding="utf-8")
    told = [int(count) for count in TOLD.findall(text)]
    assert len(told) <= elapsed_s + 1
    assert "traceback" not in text
    return sum(told)


async def until_served(port: int, body: bytes, limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while (await post(port, body)).status != 200:
            pass


def test_gateway_sheds_and_heals_when_bodies_are_more_than_memory(tmp_path):
    """R33 (40 of 100 bodies, 8 of 20 MiB, a bound of 160 MiB): some are told 503, RSS stays, all else is served."""

    async def main() -> None:
        upstream, loop = Patient(), asyncio.get_running_loop()
        async with (
            puppet(upstream.play) as url,
            served(tmp_path, MANA_LLM_MEMORY_BYTES_MAX=str(BOUND), OPENAI_BASE_URL=url) as running,
        ):
            body, began = body_of("openai/any", 8 * MIB), loop.time()
            tasks = [asyncio.create_task(post(running.port, body)) for _ in range(40)]
            while sum(not task.done() for task in tasks) > upstream.here or not upstream.here:
                for path in ("/livez", "/readyz", "/metrics"):
                    assert (await call(running.port, f"GET {path}")).status == 200
                await asyncio.sleep(0.05)
            # Full, and nobody sends: nothing is to do. What is small is served beside it.
            assert await cpu_share(running, 0.5) <= 0.20
            assert (await chat(running.port, "groq/sim.ok")).status == 200
            upstream.open.set()
            away = check_sheds(await asyncio.gather(*tasks))
            assert 0 < away < 40
            assert running.rss_bytes_max() <= BOUND + SLACK
            await until_served(running.port, body, 5)
            async with asyncio.timeout(5):
                while lines_told(running, loop.time() - began) < await shed(running.port):  # noqa: ASYNC110 - a file
                    await asyncio.sleep(0.05)
            assert lines_told(running, loop.time() - began) >= away
            assert await cpu_share(running, 0.5) <= 0.20

    uvloop.run(main())


@pytest.mark.long
@pytest.mark.parametrize("model", ["openai/sim.ok.first-0.5", "google/sim.ok.first-0.5", "ollama/sim.ok.first-0.5"])
def test_process_lives_when_addresses_are_limited(tmp_path, model):
    """R33 (100 of 100 bodies of 20 MiB, 600 MB of addresses): many are told 503, nothing dies, all heals in 5 s."""

    async def main() -> None:
        async with served(tmp_path, ULIMIT_V="600000", OLLAMA_MAX_CONCURRENT="0") as running:
            body, loop = body_of(model, 20 * MIB), asyncio.get_running_loop()
            began, found = loop.time(), collections.Counter()
            for _ in range(2):
                answers = await asyncio.gather(*[post(running.port, body) for _ in range(100)])
                found.update(answer.status for answer in answers)
                check_sheds(answers)
                await until_served(running.port, body, 5)
            assert found[200] >= 2
            assert found[503] >= 100
            assert running.process.returncode is None
            lines_told(running, loop.time() - began)
            assert await cpu_share(running, 1.0) <= 0.20

    uvloop.run(main())


def test_memory_goes_back_when_many_large_bodies_were_served(tmp_path):
    """After 32 bodies of 2 MiB at once the process is soon as small as before, within 24 MiB."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_MEMORY_BYTES_MAX="0") as running:
            assert (await chat(running.port, "openai/sim.ok")).status == 200
            before, body = running.rss_bytes(), body_of("openai/sim.ok.first-0.2", 2 * MIB)
            answers = await asyncio.gather(*[post(running.port, body) for _ in range(32)])
            assert {answer.status for answer in answers} == {200}
            async with asyncio.timeout(5):
                while running.rss_bytes() > before + 24 * MIB:  # noqa: ASYNC110 - the kernel has no event for it
                    await asyncio.sleep(0.05)

    uvloop.run(main())


def test_largest_body_is_smaller_when_memory_is_little(tmp_path):
    """A body that could never be served is told 413 at once, and the log has said so at the start."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_MEMORY_BYTES_MAX=str(80 * MIB)) as running:
            assert (await post(running.port, body_of("openai/sim.ok", 16 * MIB))).status == 413
            assert (await call(running.port, CHAT, body_for("openai/sim.ok"))).status == 200
            assert "memory allows request bodies of" in running.said.read_text(encoding="utf-8")

    uvloop.run(main())
