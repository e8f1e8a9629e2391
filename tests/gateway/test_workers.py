"""Several workers on one socket: a dead one is replaced, its work alone is lost, and the figures only grow."""

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from tests.caller import Answer, Exchange, begin, begin_chat, body_for, call, chat, counted
from tests.gateway.test_stopping import ENDLESS
from tests.process import Served, served

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="who holds a socket is asked of /proc")

CHAT = "POST /v1/chat/completions"
KEPT = {"Connection": "keep-alive"}
WORKERS = 3
RESPAWN_S = 1.0
STOPS_S = 5.0
"""Far more than a signal takes."""


async def until(ready, limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not ready():  # noqa: ASYNC110 - another process has no event for it
            await asyncio.sleep(0.01)


async def all_serving(running: Served, workers: int = WORKERS) -> None:
    """Until there are so many, and every one of them has told the others its figures, as it does once it serves."""
    await until(lambda: len(running.children()) == workers)


class Kept:
    """A connection that is used again and again, and the process at its other end."""

    def __init__(self, exchange: Exchange, pid: int) -> None:
        self.pid = pid
        self._exchange = exchange

    async def ask(self) -> Answer:
        body = body_for("openai/sim.ok")
        head = f"{CHAT} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
        self._exchange._writer.write(head.encode() + body)
        again = Exchange(self._exchange._reader, self._exchange._writer)
        return await asyncio.wait_for(again.whole(), 10)


async def keep(running: Served) -> Kept:
    """Open a connection and see who took it."""
    exchange = await begin(running.port, "GET /livez", headers=KEPT)
    await exchange.whole()
    mine = exchange._writer.get_extra_info("sockname")[1]
    rows = [line.split() for line in _sockets()]
    # The kernel may list one twice while others come and go, and has no inode for one that has ended.
    (inode,) = {row[9] for row in rows if _port(row[1]) == running.port and _port(row[2]) == mine} - {"0"}
    (pid,) = (pid for pid in running.children() if f"socket:[{inode}]" in _files(pid))
    return Kept(exchange, pid)


def _sockets() -> list[str]:
    return Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _files(pid: int) -> set[str]:
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(file.readlink()))
        except FileNotFoundError:
            continue
    return found


@contextmanager
def stopped(pids: set[int]) -> Iterator[None]:
    """These take no connection and do nothing else meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        until_at = time.monotonic() + STOPS_S
        while not all(map(is_stopped, pids)):
            # A signal is only on its way when `kill` returns.
            assert time.monotonic() < until_at
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Whether the system has stopped a process, or it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "TXZ"
    except OSError:
        return True


async def kept_by_two(running: Served) -> list[Kept]:
    """Connections that two workers hold, so that one of them can die."""
    await all_serving(running)
    workers, kept = running.children(), []
    for pid in list(workers)[:2]:
        # Whoever is busy takes no connection, so it falls to this one.
        with stopped(workers - {pid}):
            kept += [await keep(running) for _ in range(5)]
    assert len({each.pid for each in kept}) == 2
    return kept


async def crashes(folder: Path, times: int) -> None:
    """Kill a worker so often; requests to the others go on, and a scrape is never below the one before it."""
    async with served(folder, MANA_LLM_WORKERS=str(WORKERS)) as running:
        await all_serving(running)
        loop = asyncio.get_running_loop()
        respawned_s, seen, asked = [], 0.0, 0
        for _ in range(times):
            kept = await kept_by_two(running)
            before = running.children()
            doomed = kept[0].pid
            spared = [each for each in kept if each.pid != doomed][:10]
            asking = asyncio.gather(*(each.ask() for each in spared))
            os.kill(doomed, signal.SIGKILL)
            killed_at = loop.time()
            answers = await asking + [await each.ask() for each in spared]
            await served_anew(running, before - {doomed})
            respawned_s.append(loop.time() - killed_at)
            assert len(running.children() - before) == 1
            answers += await asyncio.gather(*(chat(running.port, "openai/sim.ok") for _ in range(10)))
            assert {answer.status for answer in answers} == {200}
            asked += len(answers)
            for _ in range(5):
                text = (await call(running.port, "GET /metrics")).body
                now = counted(text, "mana_llm_requests_total", status="200")
                assert now >= seen
                seen = now
        # A busy machine takes its time now and then; a supervisor that dawdled would always.
        assert sorted(respawned_s)[math.ceil(times * 0.9) - 1] <= RESPAWN_S, respawned_s
        assert seen <= asked


async def served_anew(running: Served, others: set[int]) -> None:
    """Until somebody answers who is none of these: the new worker."""
    with stopped(others):
        assert (await call(running.port, "GET /livez")).status == 200


def test_worker_is_replaced_when_it_crashes(tmp_path):
    """R39 (3 of 50): a killed worker's place is served again in a second, the others answer everything, counters
    never fall.
    """
    uvloop.run(crashes(tmp_path, 3))


@pytest.mark.long
def test_worker_is_replaced_when_it_crashes_again_and_again(tmp_path):
    """R39 (50 of 50): the same, fifty times."""
    uvloop.run(crashes(tmp_path, 50))


def test_figures_are_of_all_workers_when_one_is_asked(tmp_path):
    """Whichever worker is scraped, a moment later it shows what all of them have counted."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_WORKERS=str(WORKERS)) as running:
            await all_serving(running)
            kept = await kept_by_two(running)
            for each in kept:
                assert (await each.ask()).status == 200
            async with asyncio.timeout(10):
                for _ in range(10):
                    while True:
                        text = (await call(running.port, "GET /metrics")).body
                        if counted(text, "mana_llm_requests_total", status="200") == len(kept):
                            break

    uvloop.run(main())


def test_every_worker_drains_when_the_parent_is_told_to_stop(tmp_path):
    """SIGTERM to the parent: streams of all workers end with the event in time, and no process is left."""

    async def main() -> None:
        settings = {"MANA_LLM_WORKERS": str(WORKERS), "MANA_LLM_DRAIN_S": "1", "MANA_LLM_DRAIN_ACCEPT_S": "0"}
        async with served(tmp_path, **settings) as running:
            await all_serving(running)
            workers = running.children()
            streams = [await begin_chat(running.port, ENDLESS, stream=True) for _ in range(20)]
            for stream in streams:
                await stream.until_events(1)
            # As a service manager does it: everybody is told, and the parent tells them again.
            for pid in (running.process.pid, *workers):
                os.kill(pid, signal.SIGTERM)
            answers = [await asyncio.wait_for(stream.whole(), 10) for stream in streams]
            assert {answer.events[-2]["error"]["code"] for answer in answers} == {"server_shutting_down"}
            assert min(answer.event_count for answer in answers) > 10
            assert await asyncio.wait_for(running.process.wait(), 10) == 0
            assert not [pid for pid in workers if alive(pid)]

    uvloop.run(main())


def test_workers_end_at_once_when_the_parent_is_told_twice(tmp_path):
    """A second SIGTERM to the parent ends every worker's drain."""

    async def main() -> None:
        settings = {"MANA_LLM_WORKERS": "2", "MANA_LLM_DRAIN_S": "60", "MANA_LLM_DRAIN_ACCEPT_S": "60"}
        async with served(tmp_path, **settings) as running:
            stream = await begin_chat(running.port, ENDLESS, stream=True)
            await stream.until_events(1)
            running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while (await call(running.port, "GET /readyz")).status != 503:
                    pass
            running.process.send_signal(signal.SIGTERM)
            assert (await asyncio.wait_for(stream.whole(), 5)).events[-2]["error"]["code"] == "server_shutting_down"
            assert await asyncio.wait_for(running.process.wait(), 5) == 0

    uvloop.run(main())


def test_no_worker_is_left_when_the_parent_is_killed(tmp_path):
    """Kill -9 of the parent: the workers notice, and end."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_WORKERS=str(WORKERS)) as running:
            await all_serving(running)
            workers = running.children()
            running.process.kill()
            await until(lambda: not [pid for pid in workers if alive(pid)])

    uvloop.run(main())


def test_every_worker_reloads_when_the_parent_is_told_to(tmp_path):
    """SIGHUP to the parent reaches every worker, and ends none."""

    async def main() -> None:
        async with served(tmp_path, MANA_LLM_WORKERS=str(WORKERS)) as running:
            kept = await kept_by_two(running)
            workers = running.children()
            # Once they answer, they listen to signals; the third one may not yet.
            async with asyncio.timeout(20):
                reloads = 0.0
                while reloads < WORKERS:
                    running.process.send_signal(signal.SIGHUP)
                    text = (await call(running.port, "GET /metrics")).body
                    reloads = counted(text, "mana_llm_config_reloads_total")
            assert running.children() == workers
            assert {(await each.ask()).status for each in kept} == {200}

    uvloop.run(main())


def test_start_fails_once_when_a_setting_is_bad(tmp_path):
    """A configuration that no worker can use ends the parent with its code, instead of being tried for ever."""
    (tmp_path / "aliases.yaml").write_text("nonsense: true\n", encoding="utf-8")

    async def main() -> None:
        environment = {"MANA_LLM_WORKERS": "3", "PORT": "0", "PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mana_llm", "serve"), cwd=tmp_path, env=environment, stdout=-3, stderr=-1
        )
        _, said = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 2
        assert said.decode().count("nonsense") == 1

    uvloop.run(main())


def test_a_limit_is_shared_when_there_are_workers(tmp_path):
    """OLLAMA_MAX_CONCURRENT is for all workers together; each has its part of it, and at least one."""
    from mana_llm.settings import Settings

    shares = {limit: [Settings(workers=3, worker=index).share(limit) for index in range(3)] for limit in (0, 2, 3, 7)}
    assert shares == {0: [0, 0, 0], 2: [1, 1, 1], 3: [1, 1, 1], 7: [3, 2, 2]}


def alive(pid: int) -> bool:
    """Whether it runs: a zombie does not, whoever forgets to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
