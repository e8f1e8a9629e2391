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

from mana_llm.edge.common import Common, EdgeLimits
from mana_llm.edge.cycle import Cycle
from mana_llm.edge.memory import FREE_BODY_BYTES, Memory
from mana_llm.edge.refusals import (
    HEADER_BYTES_MAX,
    Refusal,
    body_too_large,
    check_headers,
    headers_too_large,
    not_http,
    without_upgrade,
)
from mana_llm.edge.sockets import Descriptors
from mana_llm.edge.turns import Turns
from mana_llm.schema.errors import GatewayError, RequestError

FRAMING_BYTES_MAX: Final = HEADER_BYTES_MAX
FRAMING_RATIO_MAX: Final = 16
"""What chunk sizes, extensions and trailers may take beside the body: a chunk of one byte takes six on the wire,
and the parser keeps a trailer until it ends.
"""


class Place:
    """What a request's target says, as ASGI has it."""

    __slots__ = ("path", "query", "raw_path", "url")

    def __init__(self, url: bytes) -> None:
        self.url = url
        parsed = httptools.parse_url(url)
        self.raw_path: bytes = parsed.path or b"/"
        path = self.raw_path.decode("ascii")
        self.path = unquote(path) if "%" in path else path
        self.query: bytes = parsed.query or b""


_ROOT: Final = Place(b"/")


class Connection(Turns):
    """One client connection. What it shares with all others is set by the class that `connection_class` makes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_headers = True
        self._place = _ROOT
        self._bytes = 0
        """Bytes since the last message's end, or of this message's body with its framing."""

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._bytes += len(data)
        try:
            self._feed(data)
        except (httptools.HttpParserError, MemoryError) as error:
            self.refuse(self._problem(error, error.__context__))
            return
        cycle = self.cycle
        if self._in_headers:
            if self._bytes > HEADER_BYTES_MAX:
                self.refuse(headers_too_large())
            elif self._begun and self._running is None and not self.flow.write_paused:
                self._watch.keep(self.limits.header_s, "header")
        elif cycle and cycle.more_body:
            if self._bytes > FRAMING_BYTES_MAX + FRAMING_RATIO_MAX * cycle.size:
                self.refuse(not_http())
            elif cycle is self._running and not self.flow.write_paused:
                self._watch.keep(self.limits.body_s, "body")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            headers_end = upgrade.args[0]
        else:
            return
        # The client would like to change the protocol and may go on in this one (RFC 9110 section 7.8): a parser of
        # our own reads the same request without the wish, and then its body. Not within the except clause: there
        # httptools would lose which refusal stopped it.
        self._replay()
        self._feed(data[headers_end:])

    def _problem(self, error: Exception, cause: BaseException | None) -> GatewayError:
        """What the client is told when the parser stopped because of `error`, or of what we raised within it."""
        if isinstance(error, MemoryError) or isinstance(cause, MemoryError):
            return self.starved()
        return cause.error if isinstance(cause, Refusal) else not_http()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._begun = True
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > HEADER_BYTES_MAX:
            raise Refusal(headers_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_headers:
            return  # A trailer: it came after the headers were judged, and is never one of them.
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise Refusal(RequestError("CONNECT is not served here.", status=405, code="method_not_allowed"))
            return
        version = parser.get_http_version()
        fields = dict(self.headers)
        size = check_headers(self.headers, fields, version)
        self._begun = self._in_headers = False
        self._bytes = 0
        self._fill_scope(version, parser.get_method().decode("ascii"))
        # A stopping gateway still answers, and sends the client elsewhere with that.
        keep_alive = version != "1.0" and parser.should_keep_alive() and not self.lifecycle.stopping
        expects = fields.get(b"expect", b"").lower() == b"100-continue" and version != "1.0"
        cycle = Cycle(self, self.scope, keep_alive=keep_alive, expects_continue=expects)  # type: ignore[arg-type]
        self._take(cycle)
        if size > self.free_bytes:
            # If it is refused, the application tells: it knows the caller, and whether a page may read it.
            self._make_room(cycle, size)

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle is None or self.parser.should_upgrade():
            return
        cycle.feed(body)
        if cycle.size > cycle.room:
            # It did not say how large it is, and is allowed to grow by doubling.
            self._make_room(cycle, max(cycle.size, min(2 * cycle.room, self.limits.body_bytes_max)))

    def _make_room(self, cycle: Cycle, size: int) -> None:
        """Let the body have `size` bytes. Raises Refusal if no body may, or if there is no memory for it now."""
        if size > self.limits.body_bytes_max:
            raise Refusal(body_too_large(self.limits.body_bytes_max))
        taken = cycle.room if cycle.room > self.free_bytes else 0
        if not self.memory.take(size - taken, self.loop.time()):
            raise Refusal(self.starved())
        cycle.room = size

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_headers = True
        self._bytes = 0
        cycle = self.cycle
        if cycle is not None:
            cycle.body_complete()
            if not self.flow.write_paused:
                self._watch.clear()

    def _fill_scope(self, version: str, method: str) -> None:
        if self.url != self._place.url:
            # Most clients ask for the same again.
            self._place = Place(self.url)
        place = self._place
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "root_path": "",
            "headers": self.headers,
            "state": self.app_state,
            "method": method,
            "path": place.path,
            "raw_path": place.raw_path,
            "query_string": place.query,
        }

    def _replay(self) -> None:
        """Begin again with the same request, less its wish to change the protocol."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = b"".join([b"%b: %b\r\n" % header for header in without_upgrade(self.headers)])
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, lines)
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn does: what follows a request that wants the connection closed is left alone.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(head)


def connection_class(limits: EdgeLimits, common: Common, descriptors: Descriptors, memory: Memory) -> type[Connection]:
    """The protocol class that uvicorn is to make connections of."""
    free_bytes = min(FREE_BODY_BYTES, limits.body_bytes_max)
    shared = {"limits": limits, "descriptors": descriptors, "memory": memory, "free_bytes": free_bytes}
    shared |= msgspec.structs.asdict(common)
    return type("LimitedConnection", (Connection,), shared)
