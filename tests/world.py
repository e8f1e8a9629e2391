"""A world for tests: the real gateway on a socket, before simulated providers on another."""

import asyncio
import dataclasses
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvloop

from mana_llm.cli.demo import pointed_at
from mana_llm.compose import Application, make_gateway
from mana_llm.edge.server import Server
from mana_llm.observe.lines import LineWriter
from mana_llm.settings import Settings
from mana_llm.simulator import Simulator
from tests import jumping

STARTED_S = 10.0


class World:
    """A running gateway. `url` has no path; `v1` is what an OpenAI client's base_url is."""

    def __init__(self, application: Application, server: Server, simulator: Simulator, port: int) -> None:
        self.application = application
        self.server = server
        self.simulator = simulator
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.v1 = f"{self.url}/v1"
        self.loop = asyncio.get_running_loop()

    def run(self, work: Callable[[], Any]) -> Any:
        """Run `work` (which may return a coroutine) on the world's own loop, from the thread of a sync test."""

        async def there() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(there(), self.loop).result(timeout=30)


@asynccontextmanager
async def gateway(
    aliases: str | None = None, folder: Path | None = None, lines: LineWriter | None = None, **settings: Any
) -> AsyncIterator[World]:
    """Simulator and gateway in this loop; `settings` replace the defaults, `aliases` is a file's text.

    The access log goes to `lines`, nowhere without. In a loop of `tests.jumping`, the gateway's time is that loop's.
    """
    async with Simulator(host="127.0.0.1", port=0) as simulator:
        chosen = pointed_at(Settings(), simulator.ollama_url, simulator.openai_url, simulator.google_url)
        chosen = dataclasses.replace(chosen, **settings)
        if aliases is not None:
            assert folder is not None
            (folder / "aliases.yaml").write_text(aliases, encoding="utf-8")
            chosen = dataclasses.replace(chosen, aliases_path=str(folder / "aliases.yaml"))
        virtual = jumping.current()
        application, server = make_gateway(chosen, lines, virtual.clock if virtual else None)
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        stopping = _quick_to_stop(server, tick_s=1.0 if virtual else 0.1)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(STARTED_S):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.005)
        try:
            yield World(application, server, simulator, listener.getsockname()[1])
        finally:
            server.should_exit = True
            stopping.set()
            await serving


def _quick_to_stop(server: Server, tick_s: float) -> asyncio.Event:
    """Wake the server's loop by an event: its own tick of 0.1 s would be most of the time of a short test."""
    stopping = asyncio.Event()

    async def main_loop() -> None:
        while not await server.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), tick_s)

    server.main_loop = main_loop  # type: ignore[method-assign]
    return stopping


@contextmanager
def world(aliases: str | None = None, folder: Path | None = None, **settings: Any) -> Iterator[World]:
    """The same in a thread of its own, for clients that are not asynchronous."""
    started = threading.Event()
    found: list[World] = []
    problems: list[BaseException] = []

    async def live() -> None:
        async with gateway(aliases, folder, **settings) as running:
            running.stop = asyncio.Event()  # type: ignore[attr-defined]
            found.append(running)
            started.set()
            await running.stop.wait()  # type: ignore[attr-defined]

    def run() -> None:
        try:
            uvloop.run(live())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            problems.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(STARTED_S)
    if problems:
        raise problems[0]
    try:
        yield found[0]
    finally:
        found[0].loop.call_soon_threadsafe(found[0].stop.set)  # type: ignore[attr-defined]
        thread.join(STARTED_S)
        if problems:
            raise problems[0]
