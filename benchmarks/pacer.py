"""A provider whose chunks come one by one: `python -m benchmarks.pacer PORT CHUNKS SECONDS`.

Each chunk is a write of its own, and its content is the instant of that write, in nanoseconds of the monotonic
clock, which all processes of a machine share: so the reader knows how long each chunk was under way.
"""

import asyncio
import re
import sys
import time
from typing import Final, cast

import uvloop

from benchmarks import payloads

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)").search
_STAMP: Final = "0" * 19
_JSON_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Pacer(asyncio.Protocol):
    """One connection of the provider: lists models by GET, and answers a POST by a stream."""

    def __init__(self, chunks: int, pace_s: float) -> None:
        self._chunks = chunks
        self._pace_s = pace_s
        self._received = b""
        self._sent = 0
        self._began_at = 0.0
        self._loop = asyncio.get_running_loop()
        # A template that the stamp is written into: making JSON anew would slow the provider, not the gateway.
        self._before, self._after = _framed(payloads.content_event(_STAMP)).split(_STAMP.encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH(head)
        if not found or (length and len(body) < int(length[1])):
            return
        self._received = b""
        if head.startswith(b"GET "):
            models = payloads.models()
            self._transport.write(_JSON_HEAD % (len(models), models))
            return
        self._sent = 0
        self._began_at = self._loop.time()
        # The role and the first content leave together: the first token is due at once.
        self._write(_STREAM_HEAD + _framed(payloads.stream_head()))

    def _write(self, before: bytes = b"") -> None:
        if self._transport.is_closing():
            return
        self._sent += 1
        self._transport.write(b"%b%b%019d%b" % (before, self._before, time.monotonic_ns(), self._after))
        due = self._end if self._sent == self._chunks else self._write
        self._loop.call_at(self._began_at + self._sent * self._pace_s, due)

    def _end(self) -> None:
        self._transport.write(_framed(payloads.stream_tail()) + b"0\r\n\r\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int, chunks: int, pace_s: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Pacer(chunks, pace_s), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
