"""uvicorn, run so that a stop loses nothing: what runs may finish, what does not is told so."""

import asyncio
import socket
from types import FrameType
from typing import Any, Final

import uvicorn

from mana_llm.edge.connection import Connection, connection_class
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.turns import EdgeLimits
from mana_llm.kit.ids import Ids

BACKLOG: Final = 2048
TICK_S: Final = 0.05
CUT_S: Final = 1.0
"""Seconds for the last events of cut streams to be written."""


class Server(uvicorn.Server):
    """One gateway. `drain_s` is what a first SIGTERM leaves to running requests; a second one ends them at once."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_s: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_s = drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._lifecycle.stopping = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let requests finish, end the rest with an event that says why."""
        self._lifecycle.stopping = True
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._until_done(self._drain_s)
        self._lifecycle.cutting = True
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.cut()
        await self._until_done(CUT_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await self.lifespan.shutdown()

    async def _until_done(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + limit_s
        # uvicorn's own state has no event for it.
        # A second signal ends the drain, not the moment in which cut streams are told why.
        while self.server_state.tasks and loop.time() < end_s:
            if self.force_exit and not self._lifecycle.cutting:
                return
            await asyncio.sleep(TICK_S)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound before anything else is started, so that a taken port is told at once.

    Raises:
        OSError: if the address cannot be bound.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address, family=family, backlog=BACKLOG)


def make_server(app: Any, limits: EdgeLimits, ids: Ids, lifecycle: Lifecycle, drain_s: float) -> Server:
    """A server for `app`; it serves the sockets that `serve` is given."""
    config = uvicorn.Config(
        app,
        http=connection_class(limits, ids),
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        backlog=BACKLOG,
    )
    return Server(config, lifecycle, drain_s)
