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

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mana_llm.edge.common import EdgeLimits
from mana_llm.edge.cycle import Cycle
from mana_llm.edge.doorkeeper import NOTHING, Doorkeeper, Refused, render_fields
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.memory import Memory
from mana_llm.edge.sockets import Descriptors, watch_peer
from mana_llm.edge.watch import Watch
from mana_llm.edge.writing import WRITE_BYTES_MAX, Writing
from mana_llm.schema.errors import CrowdedError, GatewayError, MemoryShortError, RequestError

LINGER_S: Final = 2.0
"""Seconds for a client to stop sending what was refused."""


class Turns(Writing):
    """The part of a connection that knows requests and answers, but no bytes of HTTP requests."""

    limits: EdgeLimits
    doorkeeper: Doorkeeper
    lifecycle: Lifecycle
    descriptors: Descriptors
    memory: Memory
    free_bytes: int
    """Up to here a body is neither counted nor too large."""
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
        self._refused: Refused | None = None
        """What waits to be refused until the whole requests before it are answered."""

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
        self.drop_unsent()
        # Those that never ran; the running one gives back what it took when it has ended.
        for cycle in (*self._waiting, self.cycle):
            if cycle and cycle.task is None:
                self._let_go(cycle)
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
        elif self._refused:
            self._write_refusal(self._refused)
        elif not self.flow.write_paused:
            self._rest()

    def stalled(self) -> None:
        """The answer cannot go on because the client does not read."""
        self._watch.keep(self.limits.stall_s, "stall")

    def ended(self, cycle: Cycle) -> None:
        """The task of a request is over, or was cancelled before it could begin."""
        if cycle.task:
            self.tasks.discard(cycle.task)
        if cycle.room > self.free_bytes:
            self._let_go(cycle)

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
        return self._begun or self._running is not None or self.writing()

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
        self.lifecycle.shed.for_descriptors()
        self._tell(Refused(CrowdedError()))
        self._close()

    def refuse(self, error: GatewayError, waited_s: float = 0.0) -> None:
        """Refuse what comes, and close after the answer; whole requests before it are answered first. Of a request
        whose headers were whole the application hears when it asks for the body; `waited_s` is how long they were not.
        """
        if self._deaf:
            return
        self._deaf = True
        cycle = self.cycle
        if cycle is None or not cycle.more_body or self._begun:
            self._refused = Refused(error, dict(self.headers) if self._begun else NOTHING, waited_s)
            if self._running is None:
                self._write_refusal(self._refused)
        elif cycle.response_started:
            self.transport.abort()
        else:
            if not self.flow.write_paused:
                self._watch.clear()
            self._let_go(cycle)
            cycle.refuse(error)

    def unheard(self, cycle: Cycle, error: GatewayError) -> None:
        """The application left it to the connection to say what is wrong with its request's body."""
        self._running = None
        if not self.transport.is_closing():
            self._write_refusal(Refused(error, dict(cycle.scope["headers"])))

    def starved(self) -> GatewayError:
        """Memory ran out, by our account or the system's: what the client is told, once it is counted."""
        self.lifecycle.shed.for_memory()
        return MemoryShortError()

    def _let_go(self, cycle: Cycle) -> None:
        """A request is over or will not be: its body is dropped, and what was taken for it is given back."""
        cycle.drop()
        taken, cycle.room = cycle.room, self.free_bytes
        if taken > self.free_bytes:
            self.memory.give(taken)

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
        self.outbox.expect()
        # Taken out by the cycle: a callback would cost every request another turn of the loop.
        self.tasks.add(task)

    def _read_on(self) -> None:
        """Once nothing waits, read again: the body of the last that waited may have to."""
        if self._waiting or self._refused:
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

    def _write_refusal(self, refused: Refused) -> None:
        if not self.transport.is_closing():
            self._tell(refused)
            self._linger()

    def _tell(self, refused: Refused) -> None:
        own = render_fields(self.server_state.default_headers)
        answer = self.doorkeeper.refuse(refused, self.client[0] if self.client else "")
        self.write(STATUS_LINE[refused.error.status] + own + answer)

    def _linger(self) -> None:
        """Close once the client has stopped sending, or soon: an early reset would take the answer with it."""
        self._deaf = True
        self.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._watch.until(LINGER_S, "linger")

    def _close(self) -> None:
        """Close when the client has read what was written; one that does not read is cut."""
        self._deaf = True
        self.flush()
        self.transport.close()
        self._watch.until(self.limits.stall_s, "stall")

    def _expired(self, phase: str) -> None:
        if phase == "stall":
            self.transport.abort()
        elif phase in ("idle", "linger") or (phase == "header" and not self._begun):
            self._close()
        else:
            what = "headers" if phase == "header" else "body"
            error = RequestError(f"The request's {what} did not come in time.", status=408, code="timeout")
            self.refuse(error, self.limits.header_s if phase == "header" else 0.0)
