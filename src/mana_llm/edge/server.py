"""uvicorn, run so that a stop loses nothing: what runs may finish, what does not is told so.

A stop has three parts, all counted from the signal on:

    accepting  SIGTERM only. `/readyz` says 503 and everything is served, each answer with `Connection: close`, so that
               load balancers go elsewhere without a request being lost in between. It ends early when nobody sends.
    finishing  no new connections; requests and streams run to their end.
    cutting    what still runs gets the error `server_shutting_down`.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import msgspec
import uvicorn

from mana_llm.edge.common import Common, EdgeLimits
from mana_llm.edge.connection import Connection, connection_class
from mana_llm.edge.hangup import hangups
from mana_llm.edge.lifecycle import Drain, Lifecycle, Traffic
from mana_llm.edge.memory import Memory
from mana_llm.edge.sockets import Descriptors

_log: Final = logging.getLogger(__name__)

BACKLOG: Final = 2048
TICK_S: Final = 0.05
CUT_S: Final = 0.8
"""Seconds for the last events of cut streams to be written; with what stopping takes besides, less than one."""


class Server(uvicorn.Server):
    """One gateway. A first SIGTERM or SIGINT stops it as `drain` says; a second one ends it at once."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain: Drain, memory: Memory) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain = drain
        self._memory = memory
        self._traffic = Traffic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting = self._signalled = False
        self._told_at: float | None = None
        self.began = asyncio.Event()
        """Set once it serves."""
        self.on_hangup: Callable[[], None] = lambda: None
        """Called in the loop at every SIGHUP, which ends nothing."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals(), hangups(self.on_hangup):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._signalled:
            self.end_now()
        self._signalled = True
        self.stop(accepting=sig == signal.SIGTERM)

    def stop(self, *, accepting: bool) -> None:
        """Begin to stop, with or without the accepting part; again is nothing."""
        if self.should_exit:
            return
        self._accepting = accepting
        self._told_at = self._loop.time() if self._loop else None
        self.should_exit = self._lifecycle.stopping = True

    def end_now(self) -> None:
        """Cut what runs and end."""
        self.should_exit = self.force_exit = self._lifecycle.stopping = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._failed)
        await super().startup(sockets)
        self.began.set()

    async def on_tick(self, counter: int) -> bool:
        state = self.server_state
        now_s = asyncio.get_running_loop().time()
        self._traffic.look(now_s, (state.total_requests, len(state.tasks)), self._lifecycle.probes)
        self._memory.rest(now_s)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what is still sent, stop listening, let requests finish, end the rest with an event that says why."""
        loop, drain = asyncio.get_running_loop(), self._drain
        self._lifecycle.stopping = True
        told_at = loop.time() if self._told_at is None else self._told_at
        if self._accepting:
            for connection in self._connections():
                connection.dismiss()
            accepting_s = min(drain.accept_s, drain.drain_s)
            await self._until(told_at + accepting_s, lambda: not self._traffic.may_come(loop.time()))
        for server in self.servers:
            server.close()
        for connection in self._connections():
            connection.dismiss()
        await self._until(told_at + drain.drain_s, self._idle)
        self._lifecycle.cutting = True
        for connection in self._connections():
            connection.cut()
        await self._until(loop.time() + CUT_S, self._idle)
        for connection in self._connections():
            connection.transport.abort()
        await self.lifespan.shutdown()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something failed within the loop itself, such as a read for which there was no memory: that cuts one
        connection, and is counted with all that memory cost instead of being told each time.
        """
        if isinstance(context.get("exception"), MemoryError):
            self._lifecycle.shed.for_memory()
        else:
            loop.default_exception_handler(context)

    def _connections(self) -> list[Connection]:
        return [connection for connection in self.server_state.connections if isinstance(connection, Connection)]

    def _idle(self) -> bool:
        """Nothing runs, and nothing that was answered is still to be written."""
        return not self.server_state.tasks and not any(connection.busy() for connection in self._connections())

    async def _until(self, end_at: float, done: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        # uvicorn's own state has no event for it.
        # A second signal ends the drain, not the moment in which cut streams are told why.
        while not done() and loop.time() < end_at:
            if self.force_exit and not self._lifecycle.cutting:
                return
            await asyncio.sleep(TICK_S)
            # The Date header is renewed there, and whoever sends is noticed.
            await self.on_tick(0)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound before anything else is started, so that a taken port is told at once.

    Raises:
        OSError: if the address cannot be bound.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address, family=family, backlog=BACKLOG)


def make_server(app: Any, limits: EdgeLimits, common: Common, drain: Drain) -> Server:
    """A server for `app`; it serves the sockets that `serve` is given."""
    memory = Memory(limits.memory_bytes_max)
    bytes_max = memory.body_bytes_max(limits.body_bytes_max)
    if bytes_max < limits.body_bytes_max:
        _log.warning("memory allows request bodies of %d bytes only; see MANA_LLM_MEMORY_BYTES_MAX", bytes_max)
        limits = msgspec.structs.replace(limits, body_bytes_max=bytes_max)
    config = uvicorn.Config(
        app,
        http=connection_class(limits, common, Descriptors(), memory),
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        backlog=BACKLOG,
    )
    return Server(config, common.lifecycle, drain, memory)
