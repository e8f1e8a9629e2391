"""What the parent of several workers says is a log line like any other, and holds up nobody."""

import asyncio
import json
import os
import signal
import sys

import pytest
import uvloop

from tests.gateway.seated import until
from tests.process import Served, served

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are asked of /proc")

WORKERS = {"MANA_LLM_WORKERS": "2", "MANA_LLM_DRAIN_S": "1"}


async def killed_and_replaced(running: Served) -> None:
    await until(lambda: len(running.children()) == 2)
    doomed = min(running.children())
    os.kill(doomed, signal.SIGKILL)
    await until(lambda: len(running.children() - {doomed}) == 2)


def test_line_is_an_object_when_a_worker_is_replaced(tmp_path):
    """Where standard error is no terminal, the parent's lines are JSON objects of the same members as the workers'."""

    async def main() -> list[dict]:
        async with served(tmp_path, **WORKERS) as running:
            await killed_and_replaced(running)
            return [json.loads(line) for line in running.said.read_text(encoding="utf-8").splitlines()]

    (line,) = (line for line in uvloop.run(main()) if line["logger"] == "mana_llm.workers")
    assert line.keys() == {"time", "level", "logger", "message"}
    assert line["level"] == "warning"
    assert "ended by signal 9; another starts" in line["message"]


def test_line_is_left_out_when_only_errors_are_wanted(tmp_path):
    """LOG_LEVEL chooses the parent's lines as it does the others."""

    async def main() -> str:
        async with served(tmp_path, LOG_LEVEL="error", **WORKERS) as running:
            await killed_and_replaced(running)
            return running.said.read_text(encoding="utf-8")

    assert "another starts" not in uvloop.run(main())


def test_worker_is_replaced_when_nobody_reads_the_lines(tmp_path):
    """A pipe that is full costs the parent's lines, and no worker its successor."""

    async def main() -> None:
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        try:
            while os.write(writes, b"x" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(writes, True)
        try:
            async with served(tmp_path, stderr=writes, **WORKERS) as running:
                await killed_and_replaced(running)
        finally:
            os.close(reads)
            os.close(writes)

    uvloop.run(asyncio.wait_for(main(), 30))
