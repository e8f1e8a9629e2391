"""A client's connection: uvicorn's httptools protocol with limits, deadlines, and a client that may leave.

Why each override is here (uvicorn 0.54, httptools 0.9, tried on sockets):
- neither uvicorn nor llhttp limits headers, and llhttp tells of a header only when it is complete;
- a missing or second Host, HTTP/2.0 in the request line and chunked in a 1.0 request pass llhttp;
- trailers arrive through `on_header`, after the key was checked, and would be read as headers;
- `Upgrade: h2c`, which several HTTP clients send, makes the parser swallow the body;
- uvicorn keeps no task, so nothing could be cancelled when the client leaves;
- refusals would be text, and OpenAI's clients expect OpenAI's shape.
"""

from typing import Any, Final
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mana_llm.edge.cycle import Cycle
from mana_llm.edge.refusals import (
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    Refusal,
    body_too_large,
    check_headers,
    headers_too_large,
    not_http,
    without_upgrade,
)
from mana_llm.edge.sockets import watch_peer
from mana_llm.edge.watch import Watch
from mana_llm.schema.errors import RequestError

BODY_CHECK_S: Final = 2.0
"""Seconds for a client to stop sending a body that was refused."""


class EdgeLimits(msgspec.Struct, frozen=True):
    """What a client connection may cost; seconds and bytes."""

    header_s: float
    body_s: float
    stall_s: float
    keep_alive_s: float
    body_bytes_max: int


class Connection(HttpToolsProtocol):
    """One client connection. `limits` is set by the class that `connection_class` makes."""

    limits: EdgeLimits
    cycle: Cycle | None  # type: ignore[assignment]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._watch = Watch(self.loop, self._expired)
        self._header_bytes = 0
        self._in_headers = True
        self._refused = False
        self._dropping = False
        self._app = self.config.loaded_app

    # What the transport tells.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        watch_peer(transport)
        self._watch.until(self.limits.header_s, "header")

    def connection_lost(self, error: Exception | None) -> None:
        self.connections.discard(self)
        self._watch.stop()
        if self.cycle and not self.cycle.response_complete:
            self.cycle.disconnect()
        for cycle, _ in self.pipeline:
            cycle.disconnect()  # type: ignore[attr-defined]
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
        self._watch.clear()

    def data_received(self, data: bytes) -> None:
        if self._refused or self._dropping:
            return
        if self._in_headers:
            self._header_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.refuse(cause.error if isinstance(cause, Refusal) else not_http())
            return
        if self._in_headers and self._header_bytes > HEADER_BYTES_MAX:
            self.refuse(headers_too_large())
        elif self._in_headers and self._header_bytes:
            self._watch.keep(self.limits.header_s, "header")
        elif self.cycle and self.cycle.more_body:
            self._watch.keep(self.limits.body_s, "body")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The client would like to change the protocol and may go on in this one (RFC 9110 section 7.8): a
            # parser of our own reads the same request without the wish, and then its body.
            self._replay()
            self._feed(data[upgrade.args[0] :])

    # What the parser tells.

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.scope = {"type": "http"}  # type: ignore[typeddict-item]

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > HEADER_BYTES_MAX:
            raise Refusal(headers_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_headers:
            return  # A trailer: it came after the headers were judged, and is never one of them.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        if len(self.headers) > HEADERS_MAX:
            raise Refusal(headers_too_large())

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise Refusal(RequestError("CONNECT is not served here.", status=405, code="method_not_allowed"))
            return
        version = parser.get_http_version()
        size = check_headers(self.headers, version)
        self._in_headers = False
        self._header_bytes = 0
        if size > self.limits.body_bytes_max:
            raise Refusal(body_too_large(self.limits.body_bytes_max))
        self._fill_scope(version, parser.get_method().decode("ascii"))
        keep_alive = version != "1.0" and parser.should_keep_alive()
        expects = self.expect_100_continue
        cycle = Cycle(self, self.scope, keep_alive=keep_alive, expects_continue=expects)  # type: ignore[arg-type]
        waiting, self.cycle = self.cycle, cycle
        if waiting is None or waiting.response_complete:
            self._start(cycle)
        else:
            # A pipelined request waits for its turn, and nothing more is read meanwhile.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self._app))  # type: ignore[arg-type]

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle is None or self.parser.should_upgrade() or cycle.response_complete:
            return
        cycle.feed(body)
        if cycle.size > self.limits.body_bytes_max:
            raise Refusal(body_too_large(self.limits.body_bytes_max))

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_headers = True
        cycle = self.cycle
        if cycle is not None:
            cycle.body_complete()
            if cycle.response_complete:
                self._close_if_unwanted(cycle)
            else:
                self._watch.clear()

    # What the cycle tells.

    def default_head(self) -> bytes:
        """The Date header, which uvicorn renews every second."""
        headers = self.server_state.default_headers
        return b"%b: %b\r\n" % headers[0] if headers else b""

    def answered(self, cycle: Cycle) -> None:
        """The answer is written: the next request, or the wait for one, begins."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if cycle.more_body:
            # The refused body is still coming. Closing now would reset the connection and lose the answer.
            self._watch.until(BODY_CHECK_S, "body")
        elif not self._close_if_unwanted(cycle):
            self.flow.resume_reading()
            if self.pipeline:
                self._start(self.pipeline.pop()[0])  # type: ignore[arg-type]
            else:
                self._watch.until(self.limits.keep_alive_s, "idle")

    def abandon(self, cycle: Cycle) -> None:
        """The application ended without a whole answer: cutting is the only honest end."""
        if not cycle.disconnected:
            self.transport.abort()

    def refuse(self, error: RequestError) -> None:
        """Answer what is not a request that can be served, and close."""
        self._refused = True
        if self.cycle and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = msgspec.json.encode(error.body())
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.status] + self.default_head() + head + body)
        if self.cycle and not self.cycle.response_complete:
            self.cycle.disconnect()
        self._linger()

    def shutdown(self) -> None:
        """The server stops: an idle connection closes, a busy one after its answer."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    # Ourselves.

    def _start(self, cycle: Cycle) -> None:
        task = self.loop.create_task(cycle.run(self._app))
        cycle.task = task
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _fill_scope(self, version: str, method: str) -> None:
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii") if url.path else "/"
        self.scope.update(
            {
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": version,
                "server": self.server,
                "client": self.client,
                "scheme": self.scheme or "http",
                "root_path": "",
                "headers": self.headers,
                "state": self.app_state,
                "method": method,
                "path": unquote(path) if "%" in path else path,
                "raw_path": url.path or b"/",
                "query_string": url.query or b"",
            }
        )

    def _replay(self) -> None:
        """Begin again with the same request, less its wish to change the protocol."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = b"".join([b"%b: %b\r\n" % header for header in without_upgrade(self.headers)])
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, lines)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head)

    def _close_if_unwanted(self, cycle: Cycle) -> bool:
        if cycle.keep_alive:
            return False
        self._dropping = True
        self.transport.close()
        return True

    def _linger(self) -> None:
        """Close once the client has stopped sending, or soon: an early reset would take the answer with it."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._watch.until(BODY_CHECK_S, "linger")

    def _expired(self, phase: str) -> None:
        if phase == "stall":
            self.transport.abort()
        elif phase in ("idle", "linger") or (phase == "header" and not self._header_bytes):
            self.transport.close()
        else:
            what = "headers" if phase == "header" else "body"
            self.refuse(RequestError(f"The request's {what} did not come in time.", status=408, code="timeout"))


def connection_class(limits: EdgeLimits) -> type[Connection]:
    """The protocol class that uvicorn is to make connections of."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
