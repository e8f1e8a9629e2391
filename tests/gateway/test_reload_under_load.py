"""SIGHUP on the real process, alone and in a storm: nobody's request notices."""

import asyncio
import itertools
import signal
import sys
from pathlib import Path

import pytest
import uvloop

from mana_llm.routing.aliases import version_of
from tests.caller import Answer, call, chat, counted
from tests.process import Served, served

GOOD = {f"openai/sim.ok.chunks-{number}": number for number in range(1, 11)}
FILE = "aliases: {{mana/a: {{chain: [{entry}]}}}}\ndefault: mana/a\n"
EXPECTED = {version_of(FILE.format(entry=label)): label for label in GOOD}
BAD = ("", "aliases: [", FILE.format(entry="nobody/x"), FILE.format(entry="ollama/x") + "defaults: y\n", "\x00")
SIGNALS_PER_S = 100
WORKERS = 6
NOTICED_S = 5.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


def put(folder: Path, text: str) -> None:
    """Replace the file in one step."""
    fresh = folder / "aliases.new"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(folder / "aliases.yaml")


async def reloads(port: int) -> dict[str, float]:
    """How often a reload came to what."""
    text = (await call(port, "GET /metrics")).body
    results = ("ok", "rejected", "unchanged")
    return {result: counted(text, "mana_llm_config_reloads_total", result=result) for result in results}


async def until_reloads(port: int, count: int) -> dict[str, float]:
    async with asyncio.timeout(NOTICED_S):
        while sum((found := await reloads(port)).values()) < count:  # noqa: ASYNC110 - a signal has no answer
            await asyncio.sleep(0.01)
    return found


def test_hangup_reloads_when_the_file_changed_or_not(tmp_path):
    """SIGHUP ends nothing: it takes a new file at once, says of the same that it is, and leaves a bad one alone."""
    first, second = FILE.format(entry="ollama/sim.ok"), FILE.format(entry="openai/sim.ok")

    async def main() -> None:
        put(tmp_path, first)
        async with served(tmp_path) as running:
            for number, text in enumerate((first, second, "aliases: 1\n"), 1):
                put(tmp_path, text)
                running.process.send_signal(signal.SIGHUP)
                found = await until_reloads(running.port, number)
            assert found == {"unchanged": 1, "ok": 1, "rejected": 1}
            answer = await chat(running.port, "mana/a")
            assert answer.headers["x-mana-llm-config"] == version_of(second)
            assert running.process.returncode is None

    uvloop.run(main())


def assert_consistent(answer: Answer) -> str:
    """The answer is whole and good, and all of it is of the one version that it names; gives that version."""
    assert answer.status == 200, answer.body
    version = answer.headers["x-mana-llm-config"]
    label = EXPECTED[version]
    assert answer.headers["x-mana-llm-resolved"] == label
    assert answer.headers["x-mana-llm-attempts"] == "1"
    if answer.headers["content-type"].startswith("text/event-stream"):
        *chunks, end = answer.events
        assert {chunk["model"] for chunk in chunks} == {label}
        assert end == "[DONE]"
    else:
        assert answer.json["model"] == label
    return version


async def storm(running: Served, folder: Path, count: int) -> None:
    """Another file and a SIGHUP, again and again, at their rate; every second file is bad."""
    texts = zip(itertools.cycle(GOOD), itertools.cycle(BAD), strict=False)
    files = itertools.chain.from_iterable((FILE.format(entry=label), bad) for label, bad in texts)
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    for number, text in enumerate(itertools.islice(files, count), 1):
        put(folder, text)
        running.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(max(0.0, began_at + number / SIGNALS_PER_S - loop.time()))
    assert loop.time() - began_at <= 1.05 * count / SIGNALS_PER_S + 1.0, "too slow for a storm"


async def storm_under_load(folder: Path, count: int) -> None:
    put(folder, FILE.format(entry=next(iter(GOOD))))
    async with served(folder, LOG_LEVEL="error") as running:
        storming = asyncio.create_task(storm(running, folder, count))
        seen: set[str] = set()

        async def ask(model: str, *, stream: bool) -> None:
            while not storming.done():
                seen.add(assert_consistent(await chat(running.port, model, stream=stream)))

        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(ask("mana/a" if number % 3 else "", stream=bool(number % 2)))
        await storming
        put(folder, FILE.format(entry="openai/sim.ok.chunks-7"))
        told = await call(running.port, "POST /v1/aliases/reload")
        assert told.json["version"] == assert_consistent(await chat(running.port, "mana/a"))
        found = await reloads(running.port)
        # Signals that come while a file is read are one signal.
        assert min(found["ok"], found["rejected"]) >= max(3, count // 100)
        assert len(seen) >= 3
        metrics = (await call(running.port, "GET /metrics")).body
        asked = counted(metrics, "mana_llm_requests_total", model="mana/a")
        assert asked == counted(metrics, "mana_llm_requests_total", model="mana/a", status="200")


def test_requests_are_served_by_one_version_each_when_hangups_storm(tmp_path):
    """R36 (2 s of 60 s): 100 SIGHUP/s, every second file bad: 0 errors, and each answer is of one version."""
    uvloop.run(storm_under_load(tmp_path, 2 * SIGNALS_PER_S))


@pytest.mark.long
def test_requests_are_served_by_one_version_each_when_hangups_storm_for_a_minute(tmp_path):
    """R36 (60 s of 60 s): 100 SIGHUP/s, every second file bad: 0 errors, and each answer is of one version."""
    uvloop.run(storm_under_load(tmp_path, 60 * SIGNALS_PER_S))
