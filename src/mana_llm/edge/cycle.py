"""One request on a client connection as ASGI sees it: what it may receive and how its answer is written.

uvicorn's own cycle checks every header by two regular expressions and gives the body out in pieces. Ours writes
the head in one go (a header that holds a line break is refused by counting them) and gives the body out whole,
since the connection has already bounded it.
"""

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mana_llm.schema.errors import GatewayError

_log: Final = logging.getLogger(__name__)

Message = dict[str, Any]

_field: Final = b": ".join
_END: Final = (b"", b"")
"""What the last field and the empty line after it are ended by."""

PIECES_MAX: Final = 1024
"""Pieces of a body that are kept as they came."""


class Cycle:
    """One request and its answer. `connection` is told when the answer is complete.

    `room` is how many bytes the body may have; the connection makes it larger.
    """

    __slots__ = (
        "_begun",
        "_chunked",
        "_complete",
        "_connection",
        "_counted",
        "_expects_continue",
        "_head",
        "_head_only",
        "_left_bytes",
        "_pieces",
        "_refused",
        "_waiter",
        "cancelled",
        "disconnected",
        "flow",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "room",
        "scope",
        "size",
        "task",
    )

    def __init__(self, connection: Any, scope: dict[str, Any], *, keep_alive: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.flow: FlowControl = connection.flow
        self.keep_alive = keep_alive
        self.task: asyncio.Task[None] | None = None
        self.size = 0
        self.room: int = connection.free_bytes
        self.more_body = True
        self.disconnected = False
        self.cancelled = False
        self.response_started = False
        self.response_complete = False
        self._connection = connection
        self._pieces: list[bytes | bytearray] = []
        self._head: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._expects_continue = expects_continue
        self._head_only = scope["method"] == "HEAD"
        self._chunked = False
        self._counted = False
        self._begun = False
        self._left_bytes = 0
        self._refused: GatewayError | None = None

    async def run(self, app: Any) -> None:
        """Run the application; a cancellation that came from our own connection ends here, in silence."""
        self._begun = True
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self.cancelled:
                raise
        except MemoryError:
            # Not even an answer that says so could be made: the connection is cut.
            self._connection.starved()
        except GatewayError as error:
            self._unheard(error)
        except Exception:  # noqa: BLE001 - a bug in one request must not end the server
            # The application answers its own errors: this is a bug in it, or an answer that could not be sent.
            _log.exception("a request ended in an error")
        finally:
            self._connection.ended(self)
            if not self.response_complete:
                self._connection.abandon(self)

    def feed(self, piece: bytes) -> None:
        """Take a piece of the request's body."""
        pieces = self._pieces
        pieces.append(piece)
        self.size += len(piece)
        if len(pieces) > PIECES_MAX:
            # A body in tiny chunks: as many objects would take thirty times its size.
            first = pieces[0]
            whole = first if isinstance(first, bytearray) else bytearray(first)
            whole += b"".join(pieces[1:])
            self._pieces = [whole]

    def drop(self) -> None:
        """Forget the body, of which nothing is wanted any more."""
        self._pieces = []

    def body_complete(self) -> None:
        """The request's body is whole."""
        self.more_body = False
        self._wake()

    def disconnect(self) -> None:
        """The client is gone: the task that works for it is cancelled at once."""
        self.disconnected = True
        self._wake()
        self.cancel()

    def refuse(self, error: GatewayError) -> None:
        """No more of the body is read: whoever asks for it is told why."""
        self._refused = error
        self._wake()

    def _unheard(self, error: GatewayError) -> None:
        """The application has answered nothing, and ended with an error that is an answer."""
        if error is self._refused and not self.response_started and not self.disconnected:
            self.response_complete = True
            self._connection.unheard(self, error)
        else:
            _log.error("a request ended in an error", exc_info=error)

    def cancel(self) -> None:
        """Stop working on this request."""
        if self.task and not self.response_complete:
            self.cancelled = True
            self.task.cancel()
            if not self._begun:
                # A task that is cancelled before its first step runs nothing, its `finally` included.
                self._connection.ended(self)

    async def receive(self) -> Message:
        """The whole body as one message, or that the client left.

        Raises:
            GatewayError: if the body is refused.
        """
        if self._expects_continue and not self.response_started and not self._refused:
            self._expects_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while (self.more_body or not self._pieces_due()) and not self.disconnected and not self._refused:
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        if self.disconnected:
            return {"type": "http.disconnect"}
        if self._refused:
            raise self._refused
        pieces, self._pieces = self._pieces, []
        body = pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else b"".join(pieces)
        self.size = -1
        return {"type": "http.request", "body": body, "more_body": False}

    def _pieces_due(self) -> bool:
        # After the body was given out, `receive` waits for the client to leave.
        return self.size >= 0

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._connection.outbox.expect()
            self._waiter.set_result(None)

    async def send(self, message: Message) -> None:
        """Write a piece of the answer, waiting while the client does not read."""
        if self.flow.write_paused and not self.disconnected:
            self._connection.stalled()
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            if message["type"] == "http.response.start":
                raise RuntimeError("an answer cannot begin twice")
            self._send_body(message.get("body", b""), more_body=message.get("more_body", False))
        else:
            self._send_head(message["status"], message["headers"])

    def _send_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        lines = [*map(_field, self._connection.server_state.default_headers), *map(_field, headers)]
        for name, value in reversed(headers):
            if name == b"content-length":
                self._counted, self._left_bytes = True, int(value)
                break
        else:
            # HTTP/1.0 knows no chunks: there the end of the connection ends the body (RFC 9112 section 6.1).
            has_body = status not in (204, 304) and not self._head_only
            self._chunked = has_body and self.scope["http_version"] != "1.0"
        if self._chunked:
            lines.append(b"transfer-encoding: chunked")
        if self.more_body:
            # Answered before the request was whole (no key, too large): what is still coming is not read.
            self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close")
        lines += _END
        block = b"\r\n".join(lines)
        if len(block) - len(block.translate(None, b"\r\n\0")) != 2 * (len(lines) - 1):
            raise ValueError("a response header holds a line break")
        self.response_started = True
        # The head waits for the first piece of the body: one write, one packet.
        self._head = [STATUS_LINE[status], block]

    def _send_body(self, body: bytes, *, more_body: bool) -> None:
        parts, self._head = self._head, []
        if self._counted:
            self._left_bytes = left_bytes = self._left_bytes - len(body)
            if left_bytes and (left_bytes < 0 or not more_body) and not self._head_only:
                raise RuntimeError("the answer is not as long as its Content-Length")
        if self._head_only:
            pass
        elif self._chunked:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more_body:
                parts.append(b"0\r\n\r\n")
        else:
            parts.append(body)
        if parts:
            self._connection.write(b"".join(parts))
        if not more_body:
            self.response_complete = True
            self._connection.answered(self)
