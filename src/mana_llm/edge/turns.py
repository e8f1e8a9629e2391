"""Whose turn it is on a client's connection: which request is answered, what waits, and how it all ends.

One request runs at a time. A pipelined one waits until the answer before it is written, and nothing more is read
meanwhile. There is always one deadline, chosen by what the connection waits for:

    a request          header, once one has begun; before that idle (header on a new connection)
    its body           body
    our own answer     none: the walk has its own
    the client to read stall, before all others
    the client to go   linger after a refusal, stall after an ordinary end
"""

from collections import deque
from typing import Any, Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mana_llm.edge.cycle import Cycle
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.sockets import Descriptors, watch_peer
from mana_llm.edge.watch import Watch
from mana_llm.kit.ids import Ids
from mana_llm.schema.errors import CrowdedError, GatewayError, RequestError

LINGER_S: Final = 2.0
"""Seconds for a client to stop sending what was refused."""

WRITE_BYTES_MAX: Final = 16_384
"""Bytes of an answer that may wait here for the client to read; the rest waits at the provider."""


class EdgeLimits(msgspec.Struct, frozen=True):
    """What a client connection may cost; seconds and bytes."""

    header_s: float
    body_s: float
    stall_s: float
    keep_alive_s: float
    body_bytes_max: int


class Turns(HttpToolsProtocol):
    """The part of a connection that knows requests and answers, but no bytes of HTTP requests."""

    limits: EdgeLimits
    ids: Ids
    lifecycle: Lifecycle
    descriptors: Descriptors
    cycle: Cycle | None  # type: ignore[assignment]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._app = self.config.loaded_app
        self._watch = Watch(self.loop, self._expired)
        # `cycle` is the newest request, whose body the parser reads; with pipelining an older one is running.
        self._running: Cycle | None = None
        self._waiting: deque[Cycle] = deque()
        self._begun = False
        """A request's first bytes have come and its headers are not complete."""
        self._deaf = False
        """Whatever the client still sends is dropped unread."""
        self._error: RequestError | None = None
        """The refusal that waits until the whole requests before it are answered."""

    # What the transport tells.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.descriptors.short(transport):
            self._turn_away()
            return
        watch_peer(transport)
        transport.set_write_buffer_limits(WRITE_BYTES_MAX)
        self._watch.until(self.limits.header_s, "header")

    def connection_lost(self, error: Exception | None) -> None:
        self.connections.discard(self)
        self._watch.stop()
        self._waiting.clear()
        if self._running:
            self._running.disconnect()
        if self.flow is not None:
            self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]

    def eof_received(self) -> None:
        # A client that closes its half has left: HTTP clients that wait for an answer keep theirs open.
        return None

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._watch.until(self.limits.stall_s, "stall")

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if self._deaf and self._running is None:
            return
        self._watch.clear()
        if self._running is None:
            self._rest()

    # What the cycle tells.

    def default_head(self) -> bytes:
        """The Date header, which uvicorn renews every second."""
        headers = self.server_state.default_headers
        return b"%b: %b\r\n" % headers[0] if headers else b""

    def answered(self, cycle: Cycle) -> None:
        """The answer is written: the next request, or the wait for one, begins."""
        self._running = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if cycle.more_body:
            # The refused body is still coming. Closing now would reset the connection and lose the answer.
            self._linger()
        elif not cycle.keep_alive:
            self._close()
        elif self._waiting:
            self._start(self._waiting.popleft())
            self._read_on()
        elif self._error:
            self._write_refusal(self._error)
        elif not self.flow.write_paused:
            self._rest()

    def stalled(self) -> None:
        """The answer cannot go on because the client does not read."""
        self._watch.keep(self.limits.stall_s, "stall")

    def ended(self, cycle: Cycle) -> None:
        """The task of a request is over, or was cancelled before it could begin."""
        if cycle.task:
            self.tasks.discard(cycle.task)

    def abandon(self, cycle: Cycle) -> None:
        """The application ended without a whole answer: cutting is the only honest end."""
        if not cycle.disconnected:
            self.transport.abort()

    # What the server tells.

    def dismiss(self) -> None:
        """The server stops: the newest request is the last. Idle, it stays for a request that may be on its way."""
        last = self._waiting[-1] if self._waiting else self._running
        # An answer that has begun without saying so is not the last while connections are still taken: whoever
        # waits for it would take the end of the connection for an idle one's, and may be sending the next already.
        if last and not last.response_started:
            last.keep_alive = False

    def busy(self) -> bool:
        """Whether a request has begun to come, is being answered, or its answer is still being written."""
        return self._begun or self._running is not None or self.transport.get_write_buffer_size() > 0

    def cut(self) -> None:
        """The server's patience has ended: the running request is cancelled."""
        if self._running:
            self._running.cancel()

    def make_room(self) -> None:
        """Descriptors are short: a connection that was served and does nothing closes, as it would in time."""
        if self.cycle is not None and not self._deaf and not self.busy():
            self._close()

    # Turns and ends.

    def _turn_away(self) -> None:
        """Answer without having read anything: this client would take a descriptor that is needed."""
        if self.descriptors.tell(self.loop.time()):
            for other in list(self.connections):
                if isinstance(other, Turns):
                    other.make_room()
        self._tell(CrowdedError())
        self._close()

    def refuse(self, error: RequestError) -> None:
        """Answer what is no request that can be served, and close; whole requests before it are answered first."""
        if self._deaf:
            return
        self._deaf = True
        running = self._running
        if running is None:
            self._write_refusal(error)
        elif running is not self.cycle or not running.more_body:
            self._error = error
            if self._waiting and self._waiting[-1].more_body:
                self._waiting.pop()
        elif running.response_started:
            self.transport.abort()
        else:
            running.disconnect()
            self._write_refusal(error)

    def _take(self, cycle: Cycle) -> None:
        """A request's headers are complete: it runs, or waits for its turn."""
        self.cycle = cycle
        if self._running is None:
            self._start(cycle)
        else:
            self.flow.pause_reading()
            self._waiting.append(cycle)

    def _start(self, cycle: Cycle) -> None:
        self._running = cycle
        task = self.loop.create_task(cycle.run(self._app))
        cycle.task = task
        # Taken out by the cycle: a callback would cost every request another turn of the loop.
        self.tasks.add(task)

    def _read_on(self) -> None:
        """Once nothing waits, read again: the body of the last that waited may have to."""
        if self._waiting or self._error:
            return
        if self.cycle and self.cycle.more_body and not self.flow.write_paused:
            self._watch.until(self.limits.body_s, "body")
        self.flow.resume_reading()

    def _rest(self) -> None:
        """Nothing runs: wait for a request, or for the rest of one that has begun."""
        if self._begun:
            self._watch.until(self.limits.header_s, "header")
        else:
            self._watch.until(self.limits.keep_alive_s, "idle")
        self.flow.resume_reading()

    def _write_refusal(self, error: RequestError) -> None:
        if not self.transport.is_closing():
            self._tell(error)
            self._linger()

    def _tell(self, error: GatewayError) -> None:
        body = msgspec.json.encode(error.body())
        own = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in error.headers().items())
        head = b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\nconnection: close\r\n\r\n"
        name = self.ids.next().encode()
        self.transport.write(STATUS_LINE[error.status] + self.default_head() + own + head % (len(body), name) + body)

    def _linger(self) -> None:
        """Close once the client has stopped sending, or soon: an early reset would take the answer with it."""
        self._deaf = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._watch.until(LINGER_S, "linger")

    def _close(self) -> None:
        """Close when the client has read what was written; one that does not read is cut."""
        self._deaf = True
        self.transport.close()
        self._watch.until(self.limits.stall_s, "stall")

    def _expired(self, phase: str) -> None:
        if phase == "stall":
            self.transport.abort()
        elif phase in ("idle", "linger") or (phase == "header" and not self._begun):
            self._close()
        else:
            what = "headers" if phase == "header" else "body"
            self.refuse(RequestError(f"The request's {what} did not come in time.", status=408, code="timeout"))
