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

from mana_llm.edge.cycle import Cycle
from mana_llm.edge.lifecycle import Lifecycle
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
from mana_llm.edge.sockets import Descriptors
from mana_llm.edge.turns import EdgeLimits, Turns
from mana_llm.kit.ids import Ids
from mana_llm.schema.errors import RequestError

FRAMING_BYTES_MAX: Final = HEADER_BYTES_MAX
FRAMING_RATIO_MAX: Final = 16
"""What chunk sizes, extensions and trailers may take beside the body: a chunk of one byte takes six on the wire,
and the parser keeps a trailer until it ends.
"""


class Connection(Turns):
    """One client connection. What it shares with all others is set by the class that `connection_class` makes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_headers = True
        self._bytes = 0
        """Bytes since the last message's end, or of this message's body with its framing."""

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.refuse(cause.error if isinstance(cause, Refusal) else not_http())
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

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._begun = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

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
        self._begun = self._in_headers = False
        self._bytes = 0
        if size > self.limits.body_bytes_max:
            raise Refusal(body_too_large(self.limits.body_bytes_max))
        self._fill_scope(version, parser.get_method().decode("ascii"))
        # A stopping gateway still answers, and sends the client elsewhere with that.
        keep_alive = version != "1.0" and parser.should_keep_alive() and not self.lifecycle.stopping
        expects = self.expect_100_continue and version != "1.0"
        cycle = Cycle(self, self.scope, keep_alive=keep_alive, expects_continue=expects)  # type: ignore[arg-type]
        self._take(cycle)

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle is None or self.parser.should_upgrade():
            return
        cycle.feed(body)
        if cycle.size > self.limits.body_bytes_max:
            raise Refusal(body_too_large(self.limits.body_bytes_max))

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
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii") if url.path else "/"
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
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path or b"/",
            "query_string": url.query or b"",
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


def connection_class(limits: EdgeLimits, ids: Ids, lifecycle: Lifecycle, descriptors: Descriptors) -> type[Connection]:
    """The protocol class that uvicorn is to make connections of; `ids` name what is refused."""
    shared = {"limits": limits, "ids": ids, "lifecycle": lifecycle, "descriptors": descriptors}
    return type("LimitedConnection", (Connection,), shared)
