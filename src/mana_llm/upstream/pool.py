"""The connections to one origin: who holds them, who waits for them, and how many there may be.

A connection is in exactly one place. `_all` holds every open one; those of them that nobody uses are also in
`_idle`, the last used at its end, because the warmest is the least likely to be dead. `_opening` counts the slots
of those that are being connected, or are about to be. `len(_all) + _opening` never exceeds the limit, and a slot
is freed by leaving `_all`, which cannot happen twice. Whoever waits is handed a connection, or (None) a slot that
is reserved for it.

    nothing -> opening -> active <-> idle -> gone
                  |          |
                  +-> gone   +-> gone
"""

import asyncio
from collections import deque
from typing import TypeAlias

from mana_llm.kit.outbox import Outbox
from mana_llm.schema.errors import ProviderConnectError
from mana_llm.schema.wire import Endpoint, Limits, Origin
from mana_llm.upstream.connection import READ_BYTES_MAX, Connection
from mana_llm.upstream.dial import Dialler
from mana_llm.upstream.limits import PoolLimits
from mana_llm.upstream.request import render_head

Waiter: TypeAlias = asyncio.Future[Connection | None]

# Endpoints are made once and used often, except where the model stands in the path: then the table would grow
# with every name a client thinks of.
_HEADS_MAX = 1024


class Pool:
    """Keeps the connections to one origin and hands them out."""

    def __init__(
        self, origin: Origin, dialler: Dialler, limits: PoolLimits, proxy_line: bytes | None, outbox: Outbox
    ) -> None:
        self.origin = origin
        self.idle_s = limits.idle_s
        self._dialler = dialler
        self._limits = limits
        # None: requests go to the origin itself; else they go to a proxy in absolute form, with this line.
        self._proxy_line = proxy_line
        self.loop = asyncio.get_running_loop()
        self._all: set[Connection] = set()
        self._idle: list[Connection] = []
        self._opening = 0
        self._waiters: deque[Waiter] = deque()
        self._heads: dict[Endpoint, bytes] = {}
        self._closed = False
        self.inbox = memoryview(bytearray(READ_BYTES_MAX))
        self.outbox = outbox

    def __repr__(self) -> str:
        queued = sum(not waiter.done() for waiter in self._waiters)
        active = len(self._all) - len(self._idle)
        return (
            f"<Pool {self.origin} [Requests: {active + self._opening} active, {queued} queued | "
            f"Connections: {active} active, {self._opening} opening, {len(self._idle)} idle]>"
        )

    def head(self, endpoint: Endpoint) -> bytes:
        """The rendered head of requests to `endpoint`. Raises ValueError if it cannot be one."""
        head = self._heads.get(endpoint)
        if head is None:
            proxied = self._proxy_line is not None
            head = render_head(endpoint, absolute=proxied, extra=self._proxy_line or b"")
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[endpoint] = head
        return head

    def take(self, now_s: float) -> Connection | None:
        """An idle connection, the last used first; None if there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable(now_s):
                return connection
            connection.cut()
        return None

    async def open(self, limits: Limits, total_at: float) -> Connection:
        """A connection: a new one, or one that becomes idle while we wait for room.

        Raises:
            ProviderConnectError: if none came about, or the pool stayed full.
            ProviderTimeoutError: if connecting took too long.
        """
        wait_at = min(self.loop.time() + self._limits.wait_s, total_at)
        while True:
            if self._closed:
                raise self._closed_error()
            if not self._full():
                self._opening += 1
            else:
                connection = await self._wait(wait_at)
                if connection is not None:
                    if connection.alive:
                        return connection
                    continue
            return await self._connect(min(limits.connect_s, total_at - self.loop.time()))

    def give_back(self, connection: Connection) -> None:
        """As `Keeper.give_back`: to the first who waits, else to the idle ones."""
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
            return
        self._idle.append(connection)
        if len(self._idle) > self._limits.idle_max:
            self._idle[0].cut()

    def forget(self, connection: Connection) -> None:
        """As `Keeper.forget`."""
        if connection in self._all:
            self._all.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._wake()

    def close(self) -> None:
        """Turn away everyone who waits and cut every connection."""
        self._closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(self._closed_error())
        for connection in list(self._all):
            connection.fail(self._closed_error())

    def make_room(self) -> None:
        """If the pool is full, cut the connection that has been idle longest."""
        if self._full() and self._idle:
            self._idle[0].cut()

    def _full(self) -> bool:
        return len(self._all) + self._opening >= self._limits.connections_max

    async def _connect(self, connect_s: float) -> Connection:
        # The slot is reserved (`_opening`) by whoever calls.
        connection = Connection(self, self.loop)
        try:
            await self._dialler.open(connection, connect_s)
            self._admit(connection)
        except BaseException:
            self._free_reserved()
            raise
        self._opening -= 1
        return connection

    def _admit(self, connection: Connection) -> None:
        if self._closed:
            connection.cut()
            raise self._closed_error()
        if not connection.alive:
            raise ProviderConnectError(f"{self.origin} closed the connection as soon as it was open.")
        self._all.add(connection)

    async def _wait(self, until_s: float) -> Connection | None:
        if len(self._waiters) >= self._limits.waiters_max:
            raise self._full_error()
        waiter: Waiter = self.loop.create_future()
        self._waiters.append(waiter)
        timer = self.loop.call_at(until_s, self._turn_away, waiter)
        try:
            return await waiter
        except BaseException:
            # What was handed over while we were being cancelled goes to the next one.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._hand_on(waiter.result())
            raise
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _turn_away(self, waiter: Waiter) -> None:
        if not waiter.done():
            waiter.set_exception(self._full_error())

    def _hand_on(self, connection: Connection | None) -> None:
        if connection is None:
            self._free_reserved()
        elif connection.alive:
            self.give_back(connection)

    def _free_reserved(self) -> None:
        self._opening -= 1
        self._wake()

    def _wake(self) -> None:
        # The slot is reserved for the waiter at once, so that no newcomer takes it before the waiter runs.
        if not self._full():
            waiter = self._next_waiter()
            if waiter is not None:
                self._opening += 1
                waiter.set_result(None)

    def _next_waiter(self) -> Waiter | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _full_error(self) -> ProviderConnectError:
        return ProviderConnectError(
            f"The pool of {self.origin} is full: all {self._limits.connections_max} connections are busy."
        )

    def _closed_error(self) -> ProviderConnectError:
        return ProviderConnectError(f"No connection to {self.origin}: the gateway is shutting down.")
