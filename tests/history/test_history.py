"""Whatever the networks and the providers do, what a client got is what one provider said to it."""

import asyncio
import itertools
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from tests.caller import call
from tests.history.checker import violations
from tests.history.clients import Load
from tests.history.nemesis import CHAINS, Nemesis
from tests.history.records import History
from tests.history.toxics import TOXICS, Proxy
from tests.history.upstreams import Upstream
from tests.logged import logged
from tests.world import World

NAMES = ("u1", "u2", "u3", "u4")
CHAT = (*(name for name in CHAINS if name != "mana/vectors"), "u2/m", "u3/m")
EMBED = ("mana/vectors", "mana/vectors", "u4/e")
SETTINGS: dict[str, Any] = {
    "connect_s": 5.0,
    "ttft_s": 0.8,
    "idle_s": 0.5,
    "total_s": 5.0,
    "queue_s": 0.1,
    "soft_commit_s": 0.15,
    "health_backoff_s": 0.2,
    "probe_interval_s": 0.5,
    "probe_timeout_s": 0.5,
    "max_concurrent": ("u3=6",),
}
QUIET_S = 10.0
FILES_SPARE = 4
"""Descriptors that the first run in a process leaves open: the loop's own, and what was imported late."""


class Play:
    """One run: what was built, and what it left behind."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.history = History()
        self.proxies: list[Proxy] = []

    async def run(self, folder: Path, requests: int, clients: int) -> None:
        """So many requests amid trouble, then a few without; then everything has come to rest."""
        async with AsyncExitStack() as stack:
            upstreams = await self._build(stack)
            rows = [f"  {proxy.name}: {{base_url: 'http://127.0.0.1:{proxy.port}/v1'}}\n" for proxy in self.proxies]
            providers = folder / "providers.yaml"
            providers.write_text(f"providers:\n{''.join(rows)}", encoding="utf-8")
            self.nemesis = Nemesis(self.proxies, folder / "aliases.yaml", self.chance)
            first = self.nemesis.write()
            world = logged(folder, first, providers_path=str(providers), **SETTINGS)
            running, log = await stack.enter_async_context(world)
            load = Load(running.port, CHAT, EMBED, self.chance)
            troubled = asyncio.create_task(self.nemesis.run(running.application.reloading.ask))
            await load.run(requests, clients)
            troubled.cancel()
            await asyncio.wait([troubled])
            await asyncio.gather(*(proxy.starting for proxy in self.proxies if proxy.starting))
            for upstream in upstreams:
                upstream.faulty = False
            await recovers(running, load)
            await rests(running)
            self.history.samples = await counted(running.port)
        self.history.asked += load.asked
        self.history.lines += log
        self.history.chains = self.nemesis.chains
        self.history.killed = self.nemesis.killed

    async def _build(self, stack: AsyncExitStack) -> list[Upstream]:
        numbers = itertools.count(1)
        upstreams = [Upstream(name, self.history.called, numbers, self.chance) for name in NAMES]
        for upstream in upstreams:
            proxy = Proxy(upstream.name, await upstream.start(), self.history.seen, self.chance)
            await proxy.start()
            self.proxies.append(proxy)
            stack.callback(upstream.close)
            stack.callback(proxy.kill)
        return upstreams


async def recovers(running: World, load: Load) -> None:
    """Without trouble every provider is soon well again, and from then on every request succeeds."""
    health = running.application.health
    # Only who is asked can show it: the chains may be such that others answer for ever.
    load.ask_directly(NAMES)
    async with asyncio.timeout(QUIET_S):
        while not all(health.told(name).healthy for name in NAMES):
            await load.run(8, 4)
    before = len(load.asked)
    await load.run(60, 6)
    assert {asked.status for asked in load.asked[before:] if not asked.left} == {200}


async def rests(running: World) -> None:
    """No seat, permit, retry, call or connection is held by anybody."""
    application = running.application
    gates = application.admission.gates.values()
    pools = application.transport._pools.values()  # type: ignore[attr-defined]
    state = running.server.server_state
    async with asyncio.timeout(QUIET_S):
        while (  # noqa: ASYNC110 - nobody tells of the last one to go
            any(gate.in_flight or gate.waiting for gate in gates)
            or any(len(pool._all) - len(pool._idle) + pool._opening for pool in pools)
            or state.tasks
            or state.connections
        ):
            await asyncio.sleep(0.02)
    assert not any(breaker.trial for breaker in application.health._breakers.values())


async def counted(port: int) -> list[tuple[str, dict[str, str], float]]:
    """Every sample of the metrics."""
    text = (await call(port, "GET /metrics")).body.decode()
    families = text_string_to_metric_families(text)
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def open_files() -> int:
    """How many file descriptors this process holds; 0 where that is not told."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def play(folder: Path, requests: int, clients: int, seed: int) -> Play:
    """A run whose history has no contradiction."""
    descriptors = open_files()
    played = Play(seed)
    uvloop.run(played.run(folder, requests, clients))
    found = violations(played.history)
    assert not found, "\n".join([f"{len(found)} violations", *found[:20]])
    assert len(played.history.asked) >= requests
    assert open_files() <= descriptors + FILES_SPARE
    return played


def test_answers_are_what_one_provider_said_when_networks_and_providers_fail(tmp_path):
    """R40 (1,500 of 100,000): amid nine toxics, kills and reloads every answer is byte for byte one call's, and log,
    metrics and providers tell the same; no store is flapped, as there is none yet.
    """
    played = play(tmp_path, 1_500, 24, seed=40)
    assert sum(proxy.met[kind] > 0 for proxy in played.proxies for kind in TOXICS) >= 8
    assert played.nemesis.killed
    assert played.nemesis.reloads
    assert any(line.get("cache") == "hit" for line in played.history.lines)


@pytest.mark.long
def test_answers_are_what_one_provider_said_when_networks_and_providers_fail_for_long(tmp_path):
    """R40 (100,000 of 100,000): the same for long, with every toxic at every provider."""
    played = play(tmp_path, 100_000, 96, seed=41)
    assert all(proxy.met[kind] for proxy in played.proxies for kind in TOXICS)
