"""A scripted server: hands every whole request to a function that says, byte by byte, what comes back."""

import asyncio
import re
from contextlib import asynccontextmanager

from mana_llm.schema.wire import Call, Endpoint, Limits, Origin
from mana_llm.upstream.client import Upstream

LIMITS = Limits(connect_s=5.0, first_s=None, idle_s=5.0, total_s=10.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class PeerConnection(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, peer):
        self.peer = peer
        self.buffer = b""
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.peer.connections.append(self)
        self.peer.on_connect(self)

    def data_received(self, data):
        self.buffer += data
        while (request := self._whole()) is not None:
            self.peer.requests.append(request)
            self.peer.answer(self, request)

    def connection_lost(self, error):
        self.gone.set_result(error)

    def write(self, data):
        self.transport.write(data)

    def close(self):
        self.transport.close()

    def abort(self):
        self.transport.abort()

    def _whole(self):
        end = self.buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", self.buffer[:end])
        end += int(length[1]) if length else 0
        if len(self.buffer) < end:
            return None
        request, self.buffer = self.buffer[:end], self.buffer[end:]
        return request


class Peer:
    """`answer(connection, request)` is called for each request, `on_connect(connection)` for each connection."""

    def __init__(self, answer, on_connect=None):
        self.answer = answer if callable(answer) else lambda connection, _: connection.write(answer)
        self.on_connect = on_connect or nothing
        self.connections = []
        self.requests = []

    def call(self, body=b"{}", method="POST", target="/v1/x", headers=b""):
        return Call(Endpoint(self.origin, method, target, headers), body)


@asynccontextmanager
async def serving(answer, *, on_connect=None, ssl=None, host="127.0.0.1"):
    """A peer that listens until the block ends."""
    peer = Peer(answer, on_connect)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PeerConnection(peer), host, 0, ssl=ssl)
    peer.port = server.sockets[0].getsockname()[1]
    peer.origin = Origin("https" if ssl else "http", host, peer.port)
    try:
        yield peer
    finally:
        server.close()
        for connection in peer.connections:
            connection.abort()
        await turns()


@asynccontextmanager
async def talking(answer, *, pool=None, **options):
    """A peer, and an Upstream that leaves no connection active behind."""
    async with serving(answer, **options) as peer:
        upstream = Upstream(**({"limits": pool} if pool else {}))
        try:
            yield peer, upstream
            assert active(upstream) == 0, upstream
        finally:
            await upstream.close()


def active(upstream):
    """Every slot that is taken and not idle."""
    pools = upstream._pools.values()
    return sum(len(pool._all) + pool._opening - len(pool._idle) for pool in pools)


def idle(upstream):
    return sum(len(pool._idle) for pool in upstream._pools.values())


async def fetch(upstream, call, limits=LIMITS, bytes_max=10_000_000):
    """Send, read the whole answer, close."""
    response = await upstream.send(call, limits)
    try:
        return response, await response.read_all(bytes_max)
    finally:
        response.close()


async def turns(count=5):
    """Let the loop turn, so that what is due happens."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Let the loop turn until `condition()` holds; five seconds are never needed."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)


def nothing(*_):
    """Answer nothing."""
