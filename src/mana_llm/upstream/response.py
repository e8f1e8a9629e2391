"""One answer: buffered within a bound, read by one holder, limited in every wait."""

import asyncio

import msgspec

from mana_llm.schema.errors import ProviderError, ProviderProtocolError, ProviderTimeoutError
from mana_llm.schema.wire import Limits
from mana_llm.upstream.connection import Connection
from mana_llm.upstream.message import Message

# What may lie unread before the upstream is made to wait; one more read may be on its way. Measured with clients that
# read a byte per second of 5 MiB (R8): 116 KiB each with these bounds and the edge's, 530 KiB with 256 KiB here.
_UNREAD_BYTES_MAX = 16_384
# What one read hands over. A reader works on it without a pause: thirty streams that each had 256 KiB to work on held
# everybody else up for 57 ms (30 streams of 5 MiB, measured); with 64 KiB they took turns, and R8 wants it smaller.
_TURN_BYTES = 16_384
# How long a finished answer may take to end before its connection is not worth the wait.
_FINISH_S = 1.0
# A keep-alive connection that the upstream has closed dies of our request within a round trip. One that lived
# longer may have begun to work on it, and repeating a POST could bill it twice.
_STALE_S = 1.0


class Response(Message):
    """`ports.UpstreamResponse` on one connection.

    The holder closes it, whatever happens in between: nothing here notices a response that was dropped. Once the
    body is complete on the wire the connection is back in its pool, read or not. A cancelled `read` closes, so
    waiting for a piece in slices needs a task or a future of the holder's own.
    """

    __slots__ = (
        "_began_at",
        "_connection",
        "_content",
        "_finish_at",
        "_hurried",
        "_last_at",
        "_limits",
        "_loop",
        "_outbox",
        "_paused",
        "_reused",
        "_sent_at",
        "_unheard",
        "_waiter",
        "connect_s",
    )

    connect_s: float
    """Said by whoever got the connection."""

    def __init__(self, connection: Connection, origin: object, limits: Limits, began_at: float) -> None:
        super().__init__(origin)
        self._connection: Connection | None = connection
        self._reused = connection.served > 0
        self._limits = limits
        self._loop = connection.loop
        self._outbox = connection.outbox
        self._began_at = began_at
        self._sent_at = self._last_at = self._loop.time()
        self._finish_at: float | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._content = self._paused = self._unheard = self._hurried = False

    def __repr__(self) -> str:
        state = "failed" if self.failure else "complete" if self.complete else "open"
        return f"<Response {self.status or 'without head'} from {self.origin}, {state}>"

    # What the holder calls.

    async def head_came(self) -> None:
        """Wait for the head. Raises as `ports.Transport.send`; on any exception the connection is cut."""
        # As `_wait` does, but without a coroutine of its own: every request comes through here.
        try:
            while not self.head:
                if self.failure is not None:
                    raise self.failure  # noqa: TRY301 - a function would be called for every request
                self._waiter = self._loop.create_future()
                await self._waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None

    async def read(self) -> bytes:
        """As `ports.UpstreamResponse.read`. A body that came compressed is read in pieces of up to 256 KiB."""
        if self.size and self._hurried:
            await self._let_others()
        while True:
            data = self._take()
            if data:
                self._hurried = self.size > 0
                return data
            if self.failure is not None:
                raise self.failure
            if self.complete:
                return b""
            await self._wait()

    async def read_all(self, bytes_max: int) -> bytes:
        """As `ports.UpstreamResponse.read_all`; does not suspend when the body is there already."""
        if self.complete and self.decoder is None and 0 < self.size <= bytes_max:
            # The whole answer came with its head: the plain chat's hot path needs no further coroutine.
            return self.take()
        pieces, size = [], 0
        while data := await self.read():
            size += len(data)
            if size > bytes_max:
                self.close()
                raise ProviderProtocolError(f"{self.origin} sent a body of more than {bytes_max} bytes.")
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def content_began(self) -> None:
        """As `ports.UpstreamResponse.content_began`."""
        if not self._content:
            self._content = True
            if self._limits.more_s:
                self._limits = msgspec.structs.replace(self._limits, total_s=self._limits.total_s + self._limits.more_s)
            if self._connection is not None:
                self._connection.watch(self.limit_at())

    def finish(self) -> None:
        """As `ports.UpstreamResponse.finish`: what still comes within a second is dropped unread."""
        self.drop()
        if self._connection is not None and not self.dropping:
            self.dropping = True
            self._finish_at = self._loop.time() + _FINISH_S
            self._resume()
            self._connection.watch(self._finish_at)

    def close(self) -> None:
        """As `ports.UpstreamResponse.close`; a read that waits meanwhile fails."""
        if self._connection is not None and not self.dropping:
            self.drop()
            self.fail(ProviderProtocolError(f"The answer of {self.origin} was closed before its end."))

    def stale(self, method: str) -> bool:
        """Whether the request may be sent again: a used connection died of it without one byte of answer.

        For GET always, else only within a second of sending.
        """
        return self._unheard and (method == "GET" or self._loop.time() - self._sent_at < _STALE_S)

    # What the connection calls.

    def feed(self, data: bytes) -> None:
        """Parse what came, then settle what it means: the end, a failure, too much, or a wake-up."""
        had_head = self.head
        self._last_at = self._loop.time()
        self.parse(data)
        if self.complete:
            self._release()
        elif self.failure is not None:
            self.fail(self.failure)
        elif self.head:
            self._bound(head_came=not had_head)
        if self.head:
            self._wake()

    def lost(self, error: Exception | None) -> None:
        """End with the connection: the end of a body without a length, else a failure."""
        self._detach()
        if self.head and not self.delimited and error is None:
            self.complete = True
        else:
            self._unheard = self._reused and not self.head_bytes
            when = "in the middle of its answer" if self.head_bytes else "before it answered"
            self.note(f"closed the connection {when}.", error)
        self._wake()

    def limit_at(self) -> float:
        """The loop time of the limit that ends first as things are now."""
        return self._limit()[0]

    def expire(self) -> None:
        """Fail with the limit that ran out."""
        _, what, limit_s = self._limit()
        self.fail(ProviderTimeoutError(f"{self.origin} {what} within {limit_s:g} s."))

    def fail(self, failure: ProviderError) -> None:
        """End the exchange with `failure`, unless another came first; the connection is cut."""
        if self.failure is None:
            self.failure = failure
        connection = self._detach()
        if connection is not None:
            connection.cut()
        self._wake()

    # Ours alone.

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("A response has one reader.")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._outbox.expect()
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        if self.decoder is not None:
            return self._take_decoded()
        if not self.size:
            return b""
        data = self.take_some(_TURN_BYTES)
        if self._paused and not self.size:
            self._resume()
        return data

    async def _let_others(self) -> None:
        """Give the loop a turn between two reads that need not wait."""
        try:
            await asyncio.sleep(0)
        except BaseException:
            self.close()
            raise

    def _take_decoded(self) -> bytes:
        decoder = self.decoder
        assert decoder is not None  # noqa: S101 - the one caller asked; this tells the type checker
        try:
            if decoder.pending:
                return decoder.decode(b"")
            came = self.take()
            self._resume()
            data = decoder.decode(came)
            if not data and self.complete:
                decoder.end()
        except ProviderProtocolError as error:
            self.failure = error
            self.close()
            raise
        return data

    def _limit(self) -> tuple[float, str, float]:
        limits = self._limits
        if self._finish_at is not None:
            return self._finish_at, "did not end", _FINISH_S
        total_at = self._began_at + limits.total_s
        if self._content or (self.head and limits.first_s is None):
            # While we do not read, the silence is ours.
            if not self._paused and self._last_at + limits.idle_s < total_at:
                return self._last_at + limits.idle_s, "sent nothing more", limits.idle_s
        elif limits.first_s is not None and self._sent_at + limits.first_s < total_at:
            return self._sent_at + limits.first_s, "sent no first token", limits.first_s
        return total_at, "did not answer in full", limits.total_s

    def _bound(self, *, head_came: bool) -> None:
        connection = self._connection
        if connection is None:
            return
        if self.size > _UNREAD_BYTES_MAX and not self._paused and not self.dropping:
            self._paused = True
            connection.transport.pause_reading()
        if head_came:
            connection.watch(self.limit_at())

    def _resume(self) -> None:
        if self._paused and self._connection is not None:
            self._paused = False
            self._last_at = self._loop.time()
            self._connection.transport.resume_reading()
            self._connection.watch(self.limit_at())

    def _detach(self) -> Connection | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.end_parsing()
        return connection

    def _release(self) -> None:
        if self._paused:
            self._resume()
        connection = self._detach()
        if connection is not None:
            connection.end(keep=self.keep and self.failure is None)
