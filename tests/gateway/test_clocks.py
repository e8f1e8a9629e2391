"""Clocks that are set, slewed or asleep while requests run: limits, health and accounts go on as if nothing were."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

import pytest
import uvloop

from mana_llm.observe.clock import SystemClock
from tests.caller import begin, begin_chat, body_for, chat
from tests.gateway.staged import MODELS, failing, stage, until, whole
from tests.logged import logged

ALIAS = "mana/three"
HOUR_S = 3600.0
SLEPT_S = 600.0
SLEW = 500e-6
"""Seconds per second. Source: adjtimex(2), the most that NTP slews a clock by."""


def _real() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


def _to_and_fro() -> float:
    """Another hour, forwards or back, every 20 ms."""
    return _real() + HOUR_S * (1 - 2 * (int(time.perf_counter() * 50) % 2))


def _slewed() -> float:
    """As far off as after ten days of slewing, and on the way."""
    return _real() + SLEW * (864_000.0 + time.perf_counter())


def _slept() -> float:
    """As after a sleep that the wall clock alone has counted, again and again, every 100 ms."""
    return _real() + SLEPT_S * (int(time.perf_counter() * 10) % 1000)


WALLS: dict[str, Callable[[], float]] = {"set": _to_and_fro, "slewed": _slewed, "slept": _slept}
OFF_WALLS = pytest.mark.parametrize("wall_s", WALLS.values(), ids=WALLS)


@OFF_WALLS
def test_limits_are_kept_when_the_wall_clock_is_off(wall_s, tmp_path, monkeypatch):
    """R24 (3 of 3): set by an hour, slewed, or after a sleep of ten minutes: a deadline, a first-token limit and a
    stream's limit on silence end what they should when they should, and nothing else.
    """
    monkeypatch.setattr(SystemClock, "wall_s", staticmethod(wall_s))

    async def main() -> None:
        async with stage(tmp_path, "ttft_s: 0.2, idle_s: 0.3", total_s=600.0) as on:
            on.running.simulator.script("sim.ok.chunks-25.pace-0.05")
            # Longer than any limit but the total, and never silent.
            flowing = asyncio.create_task(chat(on.port, "ollama/any", stream=True))
            began_s = time.perf_counter()
            headers = {"x-stainless-read-timeout": "0.5"}
            answer = await (await begin(on.port, "POST /v1/chat/completions", body_for(ALIAS), headers)).whole()
            assert 0.4 <= time.perf_counter() - began_s <= 5.0
            assert answer.status == 504
            reasons = [row["reason"] for row in answer.error["attempts"]]
            assert reasons == ["ProviderTimeoutError"] * 3
            stream = await flowing
            assert (stream.events[-1], any("error" in event for event in stream.events)) == ("[DONE]", False)

    uvloop.run(main())


@OFF_WALLS
def test_rests_are_kept_when_the_wall_clock_is_off(wall_s, tmp_path, monkeypatch):
    """R24 (3 of 3): set by an hour, slewed, or after a sleep of ten minutes: a rate limit's rest lasts as long as the
    provider said, its place in a queue as long as it may, and nobody else's health changes.
    """
    monkeypatch.setattr(SystemClock, "wall_s", staticmethod(wall_s))

    async def main() -> None:
        async with stage(tmp_path, max_concurrent=("groq=1",), queue_s=0.2) as on:
            first, second, third = on.actors
            first.say(failing(429, "slow", b"retry-after: 1"))
            for actor in (second, third):
                actor.always(whole("there"))
            began_s = time.perf_counter()
            assert (await chat(on.port, ALIAS)).headers["x-mana-llm-resolved"] == MODELS[1]
            first.always(whole("back"))
            while (await chat(on.port, ALIAS)).headers["x-mana-llm-resolved"] != MODELS[0]:
                assert on.running.application.health.problems() == {"openai": "ProviderRateLimitError"}
                await asyncio.sleep(0.02)
            assert 1.0 <= time.perf_counter() - began_s <= 5.0
            assert on.running.application.health.problems() == {}
            await _saturated(on)

    uvloop.run(main())


async def _saturated(on) -> None:
    """Who waits for a place is turned away in time, and by nothing else."""
    on.actors[0]._repeats = on.actors[1]._repeats = None
    holding = await begin_chat(on.port, MODELS[1])
    await until(lambda: on.running.application.admission.gates["groq"].in_flight)
    on.actors[0].say(failing(503))
    began_s = time.perf_counter()
    answer = await chat(on.port, ALIAS)
    assert 0.15 <= time.perf_counter() - began_s <= 5.0
    assert answer.headers["x-mana-llm-resolved"] == MODELS[2]
    assert on.count("mana_llm_fallback_total", reason="saturated") == 1
    holding.close()


@OFF_WALLS
def test_log_tells_true_durations_when_the_wall_clock_is_off(wall_s, tmp_path, monkeypatch):
    """R24 (3 of 3): set by an hour, slewed, or after a sleep of ten minutes: durations are what they were, and each
    line's instant is the wall clock's own at the time, or of the batch that it left with.
    """
    monkeypatch.setattr(SystemClock, "wall_s", staticmethod(wall_s))
    told = []

    async def main() -> list:
        async with logged(tmp_path) as (running, log):
            for _ in range(4):
                began_s, wall_began_s = time.perf_counter(), _real()
                assert (await chat(running.port, "openai/sim.ok.first-0.1")).status == 200
                told.append((wall_began_s, (time.perf_counter() - began_s) * 1000))
        return log

    log = uvloop.run(main())
    assert len(log) == len(told)
    for line, (wall_began_s, took_ms) in zip(log, told, strict=True):
        assert 95.0 <= line["duration_ms"] <= took_ms + 1.0
        assert line["overhead_ms"] >= 0
        off_s = datetime.fromisoformat(line["time"]).timestamp() - wall_began_s
        if wall_s is _to_and_fro:
            assert abs(abs(off_s) - HOUR_S) < 5.0
        elif wall_s is _slewed:
            assert abs(off_s - (wall_s() - _real())) < 5.0
        else:
            assert abs(off_s - SLEPT_S * round(off_s / SLEPT_S)) < 5.0
            assert off_s < SLEPT_S * 1000
