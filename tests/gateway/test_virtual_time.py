"""Virtual time (tests.jumping): the gateway has no clock but the injected one, and nothing is really waited for."""

import asyncio
import time

import pytest

from tests import jumping
from tests.caller import begin_chat, chat
from tests.world import gateway


def real(*_: object) -> float:
    raise AssertionError("the real clock was asked")


@pytest.mark.parametrize(("model", "stream", "seconds"), [
    ("openai/sim.hang", False, 600.0),
    ("openai/sim.hang", True, 60.0),
    ("openai/sim.hang.how-body", False, 60.0),
    ("ollama/sim.hang", True, 120.0),
])  # fmt: skip
def test_gateway_keeps_its_limits_by_the_injected_clock_when_a_provider_is_silent(model, stream, seconds, monkeypatch):
    """The limits of ten, one and two minutes pass, exactly, with no look at the real clock and no real wait."""
    monkeypatch.setattr("mana_llm.observe.clock.SystemClock.now_s", staticmethod(real))
    monkeypatch.setattr("mana_llm.observe.clock.SystemClock.wall_s", staticmethod(real))

    async def main() -> None:
        loop = jumping.current()
        async with gateway() as running:
            running.application.reloading.poll_s = jumping.VIRTUAL_S_MAX
            await asyncio.sleep(10.0)
            before, waits, began_s = loop.jump_count, loop.thread_waits, loop.time()
            await chat(running.port, model, stream=stream)
            assert loop.time() - began_s == pytest.approx(seconds, abs=0.001)
            assert loop.jump_count > before
            assert loop.thread_waits == waits

    jumping.run(main())


def test_clock_stands_when_bytes_are_on_their_way():
    """However much goes through the gateway, to a client that stops reading and reads again, no time passes."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with gateway(probe_interval_s=0.0) as running:
            model = "openai/sim.ok.bytes-3000000.chunks-300"
            began_s = loop.time()
            plain = await chat(running.port, model)
            assert len(plain.text) >= 3_000_000
            exchange = await begin_chat(running.port, model, stream=True)
            await exchange.until_events(2)
            assert loop.time() == began_s
            exchange.stop_reading()
            # The kernel's buffers fill, and the upstream is made to wait.
            await asyncio.sleep(30.0)
            assert exchange.answer.event_count < 300
            exchange._writer.transport.resume_reading()
            answer = await exchange.whole()
            assert (answer.text, answer.events[-1]) == (plain.text, "[DONE]")
            assert loop.time() - began_s == pytest.approx(30.0, abs=0.001)
            exchange.close()

    jumping.run(main())


def test_client_is_cut_after_its_minute_when_it_does_not_read():
    """The limit on clients that do not read is what it is by default, and frees the upstream, too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with gateway() as running:
            exchange = await begin_chat(running.port, "openai/sim.ok.bytes-30000000.chunks-3000", stream=True)
            await exchange.until_events(1)
            exchange.stop_reading()
            began_s = loop.time()
            (chat_entry,) = [entry for entry in running.simulator.log if entry.method == "POST"]
            await running.simulator.wait_until(lambda: chat_entry.ended != "open", 600.0)
            assert chat_entry.ended == "client-closed"
            assert 59.0 <= loop.time() - began_s <= 61.0
            exchange.reset()

    jumping.run(main())


def test_clock_stands_when_a_thread_works_for_the_loop():
    """What takes real time takes no virtual time, and is really waited for."""

    async def main() -> float:
        loop = jumping.current()
        timer = loop.create_task(asyncio.sleep(0.001))
        began_s = loop.time()
        await asyncio.to_thread(time.sleep, 0.02)
        assert loop.thread_waits
        assert not timer.done()
        timer.cancel()
        return loop.time() - began_s

    assert jumping.run(main()) == 0.0


def test_run_fails_when_what_it_waits_for_never_comes(monkeypatch):
    """A test that would hang for ever ends, though the gateway's own timers go on and on."""
    monkeypatch.setattr(jumping, "VIRTUAL_S_MAX", 100.0)

    async def main() -> None:
        async with gateway():
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        jumping.run(main())
