"""A TCP proxy between gateway and provider that does to an answer what networks do.

What it does is chosen anew for every request that passes, since connections are used again.
"""

import asyncio
import random
from collections import deque
from contextlib import suppress
from typing import Any

from tests.history.records import Seen
from tests.history.upstreams import ID

TOXICS = (
    "latency",  # everything comes later
    "jitter",  # each piece comes later by another time
    "slicer",  # a few bytes at a time
    "bandwidth",  # so many bytes per second
    "reset",  # a reset after some bytes
    "black hole",  # nothing more, and no end
    "half-close",  # our side ends after some bytes, the other stays open
    "truncate",  # a clean end after some bytes
    "corrupt",  # the framing is broken after some bytes
)
BYTES_MAX = 1500
SLICES_MAX = 40


class Toxic:
    """What is done to one answer: `after` is the byte at which it begins."""

    def __init__(self, kind: str, chance: random.Random) -> None:
        self.kind = kind
        self.after = chance.randint(0, BYTES_MAX)
        self.delay_s = chance.uniform(0.001, 0.08)
        self.chance = chance


class Proxy:
    """Listens for the gateway, and talks to `port`. `share` of the answers meet one of `kinds`."""

    def __init__(self, name: str, port: int, seen: list[Seen], chance: random.Random) -> None:
        self.name = name
        self.port = 0
        self.seen = seen
        self.chance = chance
        self.kinds: tuple[str, ...] = ()
        self.share = 0.0
        self.met: dict[str, int] = dict.fromkeys(TOXICS, 0)
        self.links: set[Link] = set()
        self.starting: asyncio.Future[None] | None = None
        self.upstream_port = port
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Link(self), "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def kill(self) -> None:
        """As a process that is killed: nobody listens, and every connection is reset."""
        if self._server:
            self._server.close()
            self._server = None
        for link in list(self.links):
            link.reset()

    def toxic(self) -> Toxic | None:
        """What is done to the next answer."""
        if not self.kinds or self.chance.random() >= self.share:
            return None
        kind = self.chance.choice(self.kinds)
        self.met[kind] += 1
        return Toxic(kind, self.chance)


class Link(asyncio.Protocol):
    """One connection of the gateway's, and ours to the provider."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._up: Any = None
        self._early: list[bytes] = []
        self._toxic: Toxic | None = None
        self._passed = 0
        self._deaf = self._ended = False
        self._used = 0
        self._tail = b""
        self._seen: Seen | None = None
        self._late: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._down = transport
        self._proxy.links.add(self)
        self._opening = self._loop.create_task(self._open())

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.links.discard(self)
        self._opening.cancel()
        if self._seen and self._ended and self._used > 1 and not self._passed:
            self._seen.dropped = True
        if self._timer:
            self._timer.cancel()
        if self._up:
            self._up.abort()

    def data_received(self, data: bytes) -> None:
        self._look(data)
        if self._up:
            self._up.write(data)
        else:
            self._early.append(data)

    def came(self, data: bytes) -> None:
        """The provider said something."""
        if self._deaf:
            return
        toxic = self._toxic
        if toxic is None:
            self._pass(data)
        elif toxic.kind in ("latency", "jitter", "slicer", "bandwidth"):
            self._slow(data, toxic)
        else:
            self._spoil(data, toxic)

    def ended(self) -> None:
        """The provider's end has come to an end."""
        if not self._deaf and not self._late:
            self._ended = True
            self._down.abort()

    def reset(self) -> None:
        self._deaf = self._ended = True
        self._down.abort()

    async def _open(self) -> None:
        try:
            await self._loop.create_connection(lambda: Far(self), "127.0.0.1", self._proxy.upstream_port)
        except OSError:
            self.reset()

    def opened(self, up: Any) -> None:
        self._up = up
        for data in self._early:
            up.write(data)
        self._early = []

    def _look(self, data: bytes) -> None:
        """Note the requests that pass; each holds its id once."""
        self._tail += data
        for name in ID.findall(self._tail):
            # The head names it, too, when the gateway passes it on; a body is what counts.
            self._seen = Seen(name.decode(), self._proxy.name)
            self._proxy.seen.append(self._seen)
            self._used += 1
            self._toxic, self._passed = self._proxy.toxic(), 0
            self._tail = b""
        self._tail = self._tail[-12:]

    def _pass(self, data: bytes) -> None:
        if data and not self._down.is_closing():
            self._passed += len(data)
            self._down.write(data)

    def _spoil(self, data: bytes, toxic: Toxic) -> None:
        left = toxic.after - self._passed
        if left >= len(data):
            self._pass(data)
            return
        good, rest = data[: max(left, 0)], data[max(left, 0) :]
        if toxic.kind == "corrupt":
            self._pass(good + rest.replace(b"\r\n", b"\xff\xff", 1))
            return
        self._pass(good)
        self._deaf, self._ended = True, toxic.kind != "black hole"
        if toxic.kind == "reset":
            self._down.abort()
        elif toxic.kind == "half-close":
            with suppress(OSError, RuntimeError):
                self._down.write_eof()
        elif toxic.kind == "truncate":
            self._down.close()

    def _slow(self, data: bytes, toxic: Toxic) -> None:
        now_s = self._loop.time()
        if toxic.kind == "latency":
            self._later(now_s + toxic.delay_s, data)
        elif toxic.kind == "jitter":
            self._later(now_s + toxic.chance.uniform(0.0, toxic.delay_s), data)
        else:
            size = toxic.chance.randint(1, 24) if toxic.kind == "slicer" else 256
            size = max(size, len(data) // SLICES_MAX + 1)
            step_s = 0.0005 if toxic.kind == "slicer" else 0.004
            for at in range(0, len(data), size):
                self._later(max(now_s, self._last_at) + step_s, data[at : at + size])

    def _later(self, at_s: float, data: bytes) -> None:
        self._last_at = max(at_s, self._last_at)
        self._late.append((self._last_at, data))
        if self._timer is None:
            self._timer = self._loop.call_at(self._last_at, self._due)

    def _due(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._late and self._late[0][0] <= now_s + 0.001:
            self._pass(self._late.popleft()[1])
        if self._late:
            self._timer = self._loop.call_at(self._late[0][0], self._due)
        elif self._up.is_closing():
            self._down.close()


class Far(asyncio.Protocol):
    """The provider's end."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: Any) -> None:
        self._link.opened(transport)

    def data_received(self, data: bytes) -> None:
        self._link.came(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._link.ended()
