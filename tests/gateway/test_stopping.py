"""SIGTERM, on the real process: what runs may finish, what does not is told, and the end comes in time."""

import asyncio
import contextlib
import json
import signal
import sys

import pytest
import uvloop

from tests.caller import Exchange, begin, begin_chat, body_for, call, chat
from tests.process import served

ENDLESS = "openai/sim.ok.chunks-5000.pace-0.02"
DRAIN_S = 1.0
STOPPED = "StoppingError"
KEPT = {"Connection": "keep-alive"}
CHAT = "POST /v1/chat/completions"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


async def until_unready(port: int) -> None:
    """Until the gateway has taken its first signal."""
    async with asyncio.timeout(5):
        while (await call(port, "GET /readyz")).status != 503:
            pass


async def until_refused(port: int) -> None:
    """Until it listens no more."""
    async with asyncio.timeout(10):
        with contextlib.suppress(OSError):
            while True:
                await call(port, "GET /livez")


def test_process_ends_in_time_when_a_stream_has_no_end(tmp_path):
    """R35 (1 of 1): SIGTERM with one endless stream: it gets an error event, exit comes within drain + 1 s, and what
    the stream has used until then is in the log.
    """

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
            (line,) = (line for line in running.said.read_text(encoding="utf-8").splitlines() if ENDLESS in line)
            told = json.loads(line)
            assert (told["status"], told["error"], told["estimated"]) == (200, STOPPED, True)
            # A token for four characters, as always where the provider could not count.
            assert told["tokens_out"] == -(-len(answer.text) // 4)

    uvloop.run(main())


def test_process_ends_at_once_when_it_is_told_twice(tmp_path):
    """A second SIGTERM ends the drain: the stream is told, and the process is gone within a second."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="60", MANA_LLM_DRAIN_ACCEPT_S="60") as running:
            stream = await begin_chat(running.port, ENDLESS, stream=True)
            await stream.until_events(1)
            running.process.send_signal(signal.SIGTERM)
            await until_unready(running.port)
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


def test_process_ends_soon_when_nobody_sends_any_more(tmp_path):
    """However long new requests would be taken, a second without any is the end of an idle gateway."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="60", MANA_LLM_DRAIN_ACCEPT_S="60") as running:
            assert (await chat(running.port, "openai/sim.ok")).status == 200
            running.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(running.process.wait(), 10.0) == 0

    uvloop.run(main())


def test_process_ends_at_once_when_it_is_interrupted(tmp_path):
    """Ctrl-C needs no load balancer to notice: an idle gateway is gone within a second, whoever asked for /readyz."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="60", MANA_LLM_DRAIN_ACCEPT_S="60") as running:
            assert (await call(running.port, "GET /readyz")).status == 200
            running.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(running.process.wait(), 1.0) == 0

    uvloop.run(main())


def test_new_requests_are_served_when_a_load_balancer_has_not_noticed(tmp_path):
    """After SIGTERM `/readyz` is 503 at once, and requests are answered, each on a connection that closes after it."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="2", MANA_LLM_DRAIN_ACCEPT_S="2") as running:
            kept = await begin(running.port, "GET /readyz", headers=KEPT)
            assert (await kept.whole()).headers.get("connection") is None
            running.process.send_signal(signal.SIGTERM)
            await until_unready(running.port)
            for model in ("openai/sim.ok", "ollama/sim.ok"):
                exchange = await begin(running.port, CHAT, body_for(model), KEPT)
                answer = await exchange.whole()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
            again = await asked_again(kept)
            assert (again.status, again.headers["connection"]) == (503, "close")
            await asyncio.wait_for(running.process.wait(), 3.5)

    uvloop.run(main())


async def asked_again(kept: Exchange):
    """A second request on a connection that was kept: what was its first answer's is its second's."""
    kept._writer.write(b"GET /readyz HTTP/1.1\r\nHost: gateway\r\n\r\n")
    again = Exchange(kept._reader, kept._writer)
    return await again.whole()


def test_kept_connection_is_served_when_listening_has_ended(tmp_path):
    """While streams finish, a request on a connection that was open is answered, and no new one is taken."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="30", MANA_LLM_DRAIN_ACCEPT_S="0") as running:
            kept = await begin(running.port, "GET /readyz", headers=KEPT)
            await kept.whole()
            stream = await begin_chat(running.port, ENDLESS, stream=True)
            await stream.until_events(1)
            running.process.send_signal(signal.SIGTERM)
            await until_refused(running.port)
            assert (await asked_again(kept)).status == 503
            stream.close()
            assert await asyncio.wait_for(running.process.wait(), 3.0) == 0

    uvloop.run(main())


def test_answer_arrives_whole_when_its_client_reads_slowly_in_a_drain(tmp_path):
    """An answer that the gateway has handed to the kernel only in part is written to its end before the exit."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_DRAIN_S="30", MANA_LLM_DRAIN_ACCEPT_S="0") as running:
            slow = await begin_chat(running.port, "openai/sim.ok.bytes-16777216")
            while not slow.answer.status:
                await slow.more()
            slow.stop_reading()
            running.process.send_signal(signal.SIGTERM)
            await until_refused(running.port)
            slow._writer.transport.resume_reading()
            answer = await slow.whole()
            assert (answer.complete, len(answer.text)) == (True, 16777216)
            assert await asyncio.wait_for(running.process.wait(), 5.0) == 0

    uvloop.run(main())
