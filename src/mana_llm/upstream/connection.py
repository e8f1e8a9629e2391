"""One connection to an upstream: its transport, its one timer, and the answer that is due on it."""

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from mana_llm.kit.outbox import Outbox
from mana_llm.schema.errors import ProviderError

if TYPE_CHECKING:
    from mana_llm.upstream.response import Response

# From this size on, head and body are handed over as two buffers: below, one copy is cheaper than a second buffer.
_JOIN_BYTES_MAX = 65_536
# A timer may fire a clock tick early (uvloop's clock counts milliseconds); that is not worth another round.
_TICK_S = 0.001
# What one read takes from the socket. The loop's own buffer of 256 KB would be each slow client's share of our memory.
READ_BYTES_MAX = 32_768


class Keeper(Protocol):
    """Who keeps connections: hears of the two ways in which one can leave its exchange."""

    idle_s: float
    inbox: memoryview
    outbox: Outbox

    def give_back(self, connection: "Connection") -> None:
        """Take a connection whose answer is complete and which can carry another."""
        ...

    def forget(self, connection: "Connection") -> None:
        """Drop a connection that is dead; forgetting twice is nothing."""
        ...


class Connection(asyncio.BufferedProtocol):
    """Carries one exchange at a time; a byte that belongs to none kills it, so that answers cannot cross.

    One timer serves every limit. It is armed at the first limit and left alone while limits only move later: when
    it fires early it looks at the limit of that moment and arms itself again. So a request on a busy connection
    arms and cancels nothing.
    """

    __slots__ = (
        "_keeper",
        "_response",
        "_timer",
        "_timer_at",
        "_unsent",
        "alive",
        "idle_at",
        "loop",
        "outbox",
        "served",
        "transport",
    )

    def __init__(self, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self._keeper = keeper
        self._response: Response | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._unsent: tuple[bytes, bytes] | None = None
        self.loop = loop
        self.outbox = keeper.outbox
        self.alive = True
        self.served = 0
        self.idle_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; a TLS tunnel calls this itself with the inner one."""
        self.transport = cast(asyncio.Transport, transport)
        if not self.alive:
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: one place for all connections, as each takes out at once what came for it."""
        return self._keeper.inbox

    def buffer_updated(self, nbytes: int) -> None:
        """Give the bytes to the answer that is due, or die of them."""
        if self._response is None:
            self.cut()
        else:
            self._response.feed(bytes(self._keeper.inbox[:nbytes]))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the answer that is due; an idle connection just leaves the pool."""
        response = self._response
        self._die()
        if response is not None:
            response.lost(error)

    def start(self, response: "Response", head: bytes, body: bytes) -> None:
        """Send a request whose answer is `response`; `head` ends before Content-Length."""
        self._response = response
        self._unsent = (head, body)
        self.outbox.add(self)
        self.watch(response.limit_at())

    def flush(self) -> None:
        """Send the request that waits for the end of this turn of the loop, if there is one."""
        if self._unsent is None:
            return
        (head, body), self._unsent = self._unsent, None
        if not body and head.startswith(b"GET "):
            self.transport.write(head + b"\r\n")
        elif len(body) <= _JOIN_BYTES_MAX:
            self.transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body))
        else:
            self.transport.writelines([b"%sContent-Length: %d\r\n\r\n" % (head, len(body)), body])

    def end(self, *, keep: bool) -> None:
        """End the exchange: its answer is complete. Kept if `keep` and nothing of the request is still unsent."""
        self._response = None
        self.served += 1
        # An answer that came before its request was sent is somebody's mistake, and the request must not follow.
        if keep and self.alive and self._unsent is None and not self.transport.get_write_buffer_size():
            self.idle_at = self.loop.time()
            self.watch(self.idle_at + self._keeper.idle_s)
            self._keeper.give_back(self)
        else:
            self.cut()

    def cut(self) -> None:
        """Close at once, unsent bytes and all, telling nobody; the slot is free when this returns."""
        if self.alive:
            self._die()
            # Within a tunnel, bytes can come before the inner transport is known.
            if hasattr(self, "transport"):
                self.transport.abort()

    def fail(self, failure: ProviderError) -> None:
        """Close at once and let the answer that is due fail so."""
        if self._response is None:
            self.cut()
        else:
            self._response.fail(failure)

    def usable(self, now_s: float) -> bool:
        """Whether an idle connection may carry a request."""
        return self.alive and now_s - self.idle_at < self._keeper.idle_s and not self.transport.is_closing()

    def watch(self, at_s: float) -> None:
        """See to it that the limit is looked at no later than `at_s`."""
        if self._timer is not None:
            if at_s >= self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = at_s
        self._timer = self.loop.call_at(at_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        response = self._response
        at_s = self.idle_at + self._keeper.idle_s if response is None else response.limit_at()
        if self.loop.time() < at_s - _TICK_S:
            self.watch(at_s)
        elif response is None:
            self.cut()
        else:
            response.expire()

    def _die(self) -> None:
        self.alive = False
        self._response = None
        self._unsent = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._keeper.forget(self)
