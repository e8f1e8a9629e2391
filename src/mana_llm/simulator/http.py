"""HTTP/1.1 as the simulator needs it: a request read by httptools, and the words of an answer's head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httptools
import msgspec

from mana_llm.simulator.reply import Headers

BODY_BYTES_MAX: Final = 64 * 2**20
HEAD_BYTES_MAX: Final = 256 * 1024
_SECRETS: Final = frozenset({"authorization", "x-goog-api-key", "api-key", "x-api-key", "cookie"})
# Source: RFC 9110 section 15 and the extra codes that docs/sources.md name.
_REASONS: Final = (
    (200, "OK"),
    (301, "Moved Permanently"),
    (302, "Found"),
    (307, "Temporary Redirect"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (402, "Payment Required"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (429, "Too Many Requests"),
    (500, "Internal Server Error"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Gateway Timeout"),
)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request; header names are lower case, `path` has no query."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    keep_alive: bool

    def header(self, name: str) -> str:
        """The first header of this name, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")


def masked(headers: Headers) -> dict[str, str]:
    """The headers with each secret's value hidden, so that a log may show them."""
    return {name: "***" if name in _SECRETS else value for name, value in headers}


def head(status: int, headers: Headers) -> bytes:
    """The status line and the headers, ready to send; values are latin-1 as HTTP has it."""
    reason = dict(_REASONS).get(status, "Status")
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


class RequestReader:
    """Feeds bytes to httptools and hands each whole request to `take`; `expect` is called on a 100-continue.

    Raises (from `feed`): TooLargeError, httptools.HttpParserError.
    """

    def __init__(self, take: Callable[[Request], None], expect: Callable[[], None]) -> None:
        self._take = take
        self._expect = expect
        self._parser = httptools.HttpRequestParser(self)
        self._reset()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection."""
        if not self._in_body:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX + BODY_BYTES_MAX:
                raise TooLargeError
        self._parser.feed_data(data)

    def _reset(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_body = False

    # The names below are httptools' callbacks.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reset()

    def on_url(self, url: bytes) -> None:
        """A piece of the target came."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came; trailers are dropped."""
        if not self._in_body:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._in_body = True
        if any(name == "expect" and value.lower() == "100-continue" for name, value in self._headers):
            self._expect()

    def on_body(self, body: bytes) -> None:
        """A piece of the body came."""
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            raise TooLargeError
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        path, _, query = self._target.decode("latin-1").partition("?")
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            path=path,
            query=query,
            headers=tuple(self._headers),
            body=b"".join(self._body),
            keep_alive=self._parser.should_keep_alive(),
        )
        self._reset()
        self._take(request)


class TooLargeError(Exception):
    """A request is larger than a simulator ever needs."""
