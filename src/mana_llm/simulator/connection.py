"""One client connection: requests in, the steps of their answers out, one after another.

    idle -> answering -> idle            a request came; its answer was sent to the end
    answering -> client-closed           the client left first: the answer is cancelled there and then
    answering -> aborted                 a fault ended the answer: FIN, RST or a half-closed socket

A hanging answer stays open until the client leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Final, Protocol, cast

import httptools

from mana_llm.simulator.http import Request, RequestReader, TooLargeError
from mana_llm.simulator.log import Ended, LogEntry
from mana_llm.simulator.reply import End
from mana_llm.simulator.wire import Sent, Step, Wait, Write

# SO_LINGER on, zero seconds: the kernel then closes with a reset.
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Host(Protocol):
    """What a connection needs of the server."""

    def opened(self, connection: Connection) -> bool:
        """A connection came; False refuses it."""
        ...

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        ...

    def begin(self, connection: Connection, request: Request) -> tuple[LogEntry, Iterator[Step]]:
        """A request came: its log entry and its answer."""
        ...

    def changed(self) -> None:
        """A log entry changed."""
        ...


class Connection(asyncio.Protocol):
    """Plays answers on one transport; made by the listener for each client."""

    def __init__(self, host: Host, number: int) -> None:
        self.number = number
        self.connected_at = 0.0
        self.task: asyncio.Task[None] | None = None
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._writable = asyncio.Event()
        self._writable.set()
        self._entry: LogEntry | None = None
        self._dead = ""
        self._reader = RequestReader(self._requests.put_nowait, self._continue)

    # The names below are asyncio's.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        # uvloop's transport inherits from nothing of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self.connected_at = self._loop.time()
        if self._host.opened(self):
            self.task = self._loop.create_task(self._work())
        else:
            self._reset()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._dead:
            self._finish(self._dead)
            return
        try:
            self._reader.feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, TooLargeError):
            self._transport.write(_BAD_REQUEST)
            self._transport.close()

    def eof_received(self) -> bool:
        """The client shut its side: as Go's server does, take it for gone."""
        self._left()
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        self._left()
        self._host.lost(self)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._writable.set()

    def abort(self) -> None:
        """End now, as the whole simulator ends."""
        if self.task is not None:
            self.task.cancel()
        self._end("aborted")
        self._transport.abort()

    def _continue(self) -> None:
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _left(self) -> None:
        if self.task is not None:
            self.task.cancel()
        if self._entry is not None:
            self._entry.closed_at = self._entry.closed_at or self._loop.time()
        self._end("client-closed")

    def _end(self, ended: Ended) -> None:
        if self._entry is not None and self._entry.ended == "open":
            self._entry.ended, self._entry.ended_at = ended, self._loop.time()
        self._host.changed()

    async def _work(self) -> None:
        while True:
            request = await self._requests.get()
            self._entry, steps = self._host.begin(self, request)
            if not await self._play(steps, self._entry):
                return
            self._entry = None
            if not request.keep_alive:
                self._transport.close()
                return

    async def _play(self, steps: Iterator[Step], entry: LogEntry) -> bool:
        """Play the steps; True when the connection may serve another request."""
        for step in steps:
            if isinstance(step, Write):
                await self._writable.wait()
                self._transport.write(step.data)
                entry.bytes_sent += len(step.data)
                # Let the loop run, so that the next write is a segment of its own and a flood starves nobody.
                await asyncio.sleep(0)
            elif isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Sent):
                self._end("complete")
            else:
                return await self._finish_answer(step)
        return True

    async def _finish_answer(self, end: End) -> bool:
        if end.how.startswith("dead"):
            self._dead = end.how.removeprefix("dead-")
            return True
        if end.how == "hang":
            await asyncio.Event().wait()
        self._end("aborted")
        self._finish(end.how)
        if end.how == "half":
            await asyncio.Event().wait()
        return False

    def _finish(self, how: str) -> None:
        if how == "rst":
            self._reset()
        elif how == "half":
            self._shut_write()
        else:
            self._transport.close()

    def _reset(self) -> None:
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def _shut_write(self) -> None:
        if self._transport.can_write_eof():
            self._transport.write_eof()
            return
        # TLS knows no half-close; the bare socket does.
        with contextlib.suppress(OSError):
            self._transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
