"""A provider fails, is left alone, and comes back: over the real gateway, with the limits made small."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from tests.caller import chat, counted
from tests.measured import quietest
from tests.puppet import answer, puppet, request_of
from tests.world import World, gateway

CHAIN = "aliases: {mana/two: {chain: [openai/any, groq/sim.ok]}}\ndefault: mana/two\n"
FIRST, SECOND = "openai/any", "groq/sim.ok"
PASSED_S = 0.002
GOOD = answer(
    b'{"id":"c","object":"chat.completion","created":1,"model":"any","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"I am back."}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)
BAD = answer(b"{}", b"HTTP/1.1 500 Said\r\nContent-Type: application/json\r\n")


class Target:
    """A provider that counts the chats it gets; `reply` is what it says, once `open` is set."""

    def __init__(self, reply: bytes = BAD) -> None:
        self.reply = reply
        self.chats = 0
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await request_of(reader)
            if head.startswith(b"POST "):
                self.chats += 1
                self.asked.set()
                await self.open.wait()
                writer.write(self.reply)
            else:
                writer.write(BAD)
            await writer.drain()


@asynccontextmanager
async def before(target: Target, folder: Path, **settings: float) -> AsyncIterator[World]:
    """The gateway before the target, with a simulated second entry; nothing probes unless told to."""
    chosen = {"probe_interval_s": 0.0, "queue_max": 10_000, **settings}
    async with puppet(target.play) as url, gateway(CHAIN, folder, openai_base_url=url, **chosen) as running:
        yield running


async def resolved(running: World, *, stream: bool = False) -> str:
    """Who answered a request for the chain."""
    found = await chat(running.port, "mana/two", stream=stream)
    assert found.status == 200, found.body
    return found.headers["x-mana-llm-resolved"]


def test_silent_provider_is_left_alone_when_two_first_tokens_did_not_come(tmp_path):
    """R17 (1 of 1): who accepts and never answers is out after two first-token time-outs, long before any longer
    limit; the third request goes straight to the next entry.
    """

    async def main() -> None:
        target = Target()
        target.open.clear()
        async with before(target, tmp_path, ttft_s=0.2, idle_s=300.0) as running:
            for count in (1, 2):
                assert await resolved(running, stream=True) == SECOND
                assert target.chats == count
            assert running.application.health.problems() == {"openai": "ProviderTimeoutError"}
            for _ in range(5):
                assert await resolved(running, stream=True) == SECOND
            assert target.chats == 2
            step = {"from_model": FIRST, "to_model": SECOND}
            text = running.application.metrics.text()
            assert counted(text, "mana_llm_fallback_total", **step, reason="ProviderTimeoutError") == 2
            assert counted(text, "mana_llm_fallback_total", **step, reason="cache-unhealthy") == 5

    uvloop.run(main())


async def waiters(times: int, folder: Path) -> None:
    """So many requests, all at once, while the one trial is under way."""
    target = Target()
    async with before(target, folder, health_failures=1, health_backoff_s=0.0) as running:
        assert await resolved(running) == SECOND
        target.reply = GOOD
        target.open.clear()
        target.asked.clear()
        trial = asyncio.create_task(resolved(running))
        await target.asked.wait()
        assert await together(running, times) == [SECOND] * times
        assert target.chats == 2
        direct_s, by_s = await passing(running)
        assert by_s - direct_s <= PASSED_S, (direct_s, by_s)
        assert target.chats == 2
        target.open.set()
        assert await trial == FIRST
        assert await together(running, 100) == [FIRST] * 100


async def together(running: World, times: int) -> list[str]:
    return list(await asyncio.gather(*(resolved(running) for _ in range(times))))


async def passing(running: World) -> tuple[float, float]:
    """The p99 of asking the second entry directly, and that of the chain, which passes the first one by."""

    async def times_s(model: str) -> list[float]:
        found = []
        for _ in range(100):
            began_s = time.perf_counter()
            assert (await chat(running.port, model)).status == 200
            found.append(time.perf_counter() - began_s)
        return found

    return await quietest(
        lambda: times_s(SECOND), lambda: times_s("mana/two"), lambda direct_s, by_s: by_s - direct_s <= PASSED_S
    )


def test_one_request_tries_the_provider_when_many_come_half_open(tmp_path):
    """R18 (200 of 1,000): of all who come while it is half-open one reaches the provider, the others pass by, in at
    most 2 ms.
    """
    uvloop.run(waiters(200, tmp_path))


@pytest.mark.long
def test_one_request_tries_the_provider_when_a_thousand_come_half_open(tmp_path):
    """R18 (1,000 of 1,000): of all who come while it is half-open one reaches the provider, the others pass by, in at
    most 2 ms.
    """
    uvloop.run(waiters(1_000, tmp_path))


async def moment(times: int, folder: Path) -> None:
    """So many requests as the back-off has just ended: the first of them is the trial."""
    target = Target()
    async with before(target, folder, health_failures=1, health_backoff_s=0.0) as running:
        assert await resolved(running) == SECOND
        target.reply = GOOD
        target.open.clear()
        waiting = {asyncio.create_task(resolved(running)) for _ in range(times)}
        done: set[asyncio.Task[str]] = set()
        while len(done) < times - 1:
            some, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= some
        assert target.chats == 2
        assert {task.result() for task in done} == {SECOND}
        target.open.set()
        assert [await task for task in waiting] == [FIRST]


def test_exactly_one_goes_when_many_wait_for_the_moment(tmp_path):
    """R18 (200 of 1,000): all at once at the moment that the back-off ends, one reaches the provider."""
    uvloop.run(moment(200, tmp_path))


@pytest.mark.long
def test_exactly_one_goes_when_a_thousand_wait_for_the_moment(tmp_path):
    """R18 (1,000 of 1,000): all at once at the moment that the back-off ends, one reaches the provider."""
    uvloop.run(moment(1_000, tmp_path))


async def herd(clients: int, folder: Path, outage_s: float, backoff_s: float) -> None:
    """An outage with so many clients that send one request after the other until the provider answers them."""
    target, told, trials = Target(), [], []

    def heard(_: str, healthy: bool) -> None:
        told.append(healthy)
        if healthy:
            trials.append(target.chats - at_return)

    async def client() -> None:
        while await resolved(running) != FIRST:
            pass

    async with before(target, folder, health_backoff_s=backoff_s) as running:
        running.application.health.add_listener(heard)
        at_return, loop = 0, asyncio.get_running_loop()
        began_at = loop.time()
        all_of_them = [asyncio.create_task(client()) for _ in range(clients)]
        async with asyncio.timeout(outage_s + 2 * backoff_s + 30):
            while not told:  # noqa: ASYNC110 - the outage has no event
                await asyncio.sleep(0.002)
            # Who was under way when it tripped has failed as well before the provider returns.
            gate = running.application.admission.gates["openai"]
            while gate.in_flight or loop.time() < began_at + outage_s:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            # Each back-off ends with one request, however many clients there are.
            assert target.chats <= clients + 1 + outage_s / backoff_s
            at_return, target.reply = target.chats, GOOD
            await asyncio.gather(*all_of_them)
        assert told == [False, True]
        assert trials == [1]
        assert await together(running, 100) == [FIRST] * 100
        assert told == [False, True]


def test_provider_takes_everybody_back_when_its_trial_succeeded(tmp_path):
    """R23 (50 of 500 clients, an outage of 0.5 of 60 s): one request tries, then all come back, and nothing trips
    again.
    """
    uvloop.run(herd(50, tmp_path, 0.5, 0.3))


@pytest.mark.long
def test_provider_takes_five_hundred_back_when_its_trial_succeeded(tmp_path):
    """R23 (500 of 500 clients, an outage of 60 of 60 s): one request tries now and then, and after the outage, then
    all come back, and nothing trips again.
    """
    uvloop.run(herd(500, tmp_path, 60.0, 10.0))


HONOURED = {
    "1": (b"retry-after: 1", 1.0),
    "30": (b"retry-after: 30", 30.0),
    "120": (b"retry-after: 120", 120.0),
    "3600": (b"retry-after: 3600", 3600.0),
    "a fraction": (b"retry-after: 2.5", 2.5),
    "milliseconds": (b"retry-after-ms: 1500", 1.5),
    "milliseconds first": (b"retry-after-ms: 45000\r\nretry-after: 7", 45.0),
    "garbage before seconds": (b"retry-after-ms: soon\r\nretry-after: 7", 7.0),
    "a year": (b"retry-after: 31536000", 86_400.0),
}
IGNORED = {
    "a date": b"retry-after: Wed, 21 Oct 2065 07:28:00 GMT",
    "garbage": b"retry-after: soon",
    "negative": b"retry-after: -5",
    "negative milliseconds": b"retry-after-ms: -1",
    "infinite": b"retry-after: inf",
    "too long to be a number": b"retry-after: 99999999999999999999",
    "an exponent": b"retry-after: 1e3",
    "empty": b"retry-after:",
}


def limited(fields: bytes) -> bytes:
    return answer(b"{}", b"HTTP/1.1 429 Said\r\nContent-Type: application/json\r\n" + fields + b"\r\n")


@pytest.mark.parametrize(("fields", "wish_s"), HONOURED.values(), ids=HONOURED)
def test_rest_is_as_long_as_the_provider_says_when_it_gives_a_time(fields, wish_s, tmp_path):
    """R21 (9 of 9): a wish in seconds or milliseconds is kept from the first 429 on, never less and at most 5 % more,
    a day at most; the request goes on to the next entry at once.
    """

    async def main() -> None:
        async with before(Target(limited(fields)), tmp_path) as running:
            began_s = running.application.clock.wall_s()
            assert await resolved(running) == SECOND
            told = running.application.health.told("openai")
            assert told.last_error == "ProviderRateLimitError"
            assert (told.state, told.consecutive_failures) == ("tripped", 1) or wish_s <= 2.5
            if told.unhealthy_until is not None:
                ended_s = running.application.clock.wall_s()
                assert began_s + wish_s - 0.01 <= told.unhealthy_until <= ended_s + wish_s * 1.05 + 0.01

    uvloop.run(main())


@pytest.mark.parametrize("fields", IGNORED.values(), ids=IGNORED)
def test_wish_is_ignored_when_it_is_no_number(fields, tmp_path):
    """R21 (8 of 8): a date, garbage and negative numbers are no wish: one failure, forgiven the first time."""

    async def main() -> None:
        async with before(Target(limited(fields)), tmp_path) as running:
            assert await resolved(running) == SECOND
            told = running.application.health.told("openai")
            assert (told.state, told.consecutive_failures) == ("healthy", 1)

    uvloop.run(main())


@pytest.mark.parametrize("succeeds", [True, False])
def test_probes_decide_alone_when_nobody_sends_requests(succeeds):
    """The gateway's own probes take out who cannot be reached, and no probe brings back who is rate-limited."""

    async def main() -> None:
        async with gateway(probe_interval_s=0.02, health_backoff_s=600.0) as running:
            health = running.application.health
            if succeeds:
                found = await chat(running.port, "openai/sim.status.code-429.retry-500")
                assert found.status == 429
                lists = len(running.simulator.log)
                await running.simulator.wait_until(lambda: len(running.simulator.log) > lists + 60, 10.0)
                assert health.problems() == {"openai": "ProviderRateLimitError"}
            else:
                running.simulator.script("sim.status.code-503", path="/api/tags")
                await running.simulator.wait_until(lambda: bool(health.problems()), 10.0)
                assert health.problems() == {"ollama": "ProviderServerError"}
                found = await chat(running.port, "ollama/sim.ok")
                assert found.error["attempts"][0]["reason"] == "cache-unhealthy"

    uvloop.run(main())
