"""A gateway whose access log can be read once it has stopped."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mana_llm.observe.lines import LineWriter
from tests.world import World, gateway


class Log(list[dict[str, Any]]):
    """The lines, decoded; empty until the gateway has stopped."""

    def of(self, model: str) -> dict[str, Any]:
        """The one line of a request for `model`."""
        (line,) = [line for line in self if line.get("model") == model]
        return line


@asynccontextmanager
async def logged(folder: Path, aliases: str | None = None, **settings: Any) -> AsyncIterator[tuple[World, Log]]:
    """As `world.gateway`, with a log in `folder`."""
    file, log = os.open(folder / "access.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), Log()
    try:
        async with gateway(aliases, folder, LineWriter(file, lambda _: b""), **settings) as running:
            yield running, log
    finally:
        os.close(file)
    log += [json.loads(line) for line in (folder / "access.log").read_text(encoding="ascii").splitlines()]
