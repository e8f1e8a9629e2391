"""A client of paced streams: how long a chunk is under way, and how long the first one lets wait."""

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

from benchmarks import payloads
from benchmarks.load import HEADERS
from benchmarks.mocks import CHAT_PATH
from benchmarks.processes import ProcessError

_STAMP: Final = re.compile(rb'"content":"(\d{19})"').search
_STALL_S: Final = 30.0
# Over so long the streams begin, one after the other, so that their chunks do not come at once.
_SPREAD_S: Final = 0.1


@dataclass
class Delays:
    """Milliseconds. `first` from a request to its first content; `chunks` from the provider's write to our read;
    `gaps` between a stream's chunks as they come.
    """

    first: list[float] = field(default_factory=list)
    chunks: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


class Reader(asyncio.Protocol):
    """Reads streams, one after the other, over one connection."""

    def __init__(self, delays: Delays) -> None:
        self._delays = delays
        self._rest = b""
        self._asked_ns = 0
        self._last_ns = 0
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; done when its answer is whole."""
        self._rest = b""
        self._last_ns = 0
        self._done = asyncio.get_running_loop().create_future()
        self._asked_ns = time.monotonic_ns()
        self.transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if stamp := _STAMP(line):
                self._came(now_ns, int(stamp[1]))
            elif line == b"0\r":
                self._end(None)
            elif line.startswith(b"HTTP/1.1 ") and line[9:12] != b"200":
                self._end(ProcessError(f"a stream was answered {line!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._end(ProcessError("a stream was cut"))

    def _came(self, now_ns: int, sent_ns: int) -> None:
        self._delays.chunks.append((now_ns - sent_ns) / 1e6)
        if self._last_ns:
            self._delays.gaps.append((now_ns - self._last_ns) / 1e6)
        else:
            self._delays.first.append((now_ns - self._asked_ns) / 1e6)
        self._last_ns = now_ns

    def _end(self, error: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if error:
            self._done.set_exception(error)
        else:
            self._done.set_result(None)


def read_streams(port: int, clients: int, each: int) -> Delays:
    """What so many clients saw who read `each` streams, one after the other.

    Raises:
        ProcessError: if a stream broke or lost a chunk.
    """
    delays = Delays()
    try:
        uvloop.run(_read_all(port, clients, each, delays))
    except ExceptionGroup as group:
        raise ProcessError(f"a stream failed: {group.exceptions[0]!r}") from group
    expected = clients * each * payloads.STREAM_CHUNKS
    if len(delays.chunks) != expected:
        raise ProcessError(f"{len(delays.chunks)} chunks came of {expected}")
    return delays


async def _read_all(port: int, clients: int, each: int, delays: Delays) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_read(port, each, delays, _SPREAD_S * number / clients))


async def _read(port: int, each: int, delays: Delays, after_s: float) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(after_s)
    _, reader = await loop.create_connection(lambda: Reader(delays), "127.0.0.1", port)
    body = payloads.plain_request(stream=True)
    lines = [f"POST {CHAT_PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    try:
        for _ in range(each):
            async with asyncio.timeout(_STALL_S):
                await reader.ask(request)
    finally:
        reader.transport.close()
