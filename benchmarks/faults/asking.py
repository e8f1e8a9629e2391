"""The card's client: one request on a connection of its own, every piece of the answer with its instant."""

import asyncio
import contextlib
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httptools

from benchmarks.faults.seen import Reader, Seen

_PIECE_BYTES: Final = 65_536


@dataclass(frozen=True)
class Door:
    """Where a gateway is and how it is asked; `path` is that of chat completions."""

    host: str
    port: int
    path: str
    key: str
    model: str
    tls: bool = False

    @classmethod
    def at(cls, url: str, key: str, model: str) -> Self:
        """The door of a base URL such as http://host:4000/v1; without a path, /v1 is meant.

        Raises:
            ValueError: if it is no http or https URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a gateway, such as http://127.0.0.1:4000/v1")
        tls = parts.scheme == "https"
        path = (parts.path.rstrip("/") or "/v1") + "/chat/completions"
        return cls(parts.hostname, parts.port or (443 if tls else 80), path, key, model, tls)


async def ask(door: Door, *, stream: bool, patience_s: float) -> Seen:
    """Send one request and read its answer to the end, or until patience ends."""
    seen = Seen()
    answer = _Answer(seen, time.monotonic())
    writer = None
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(door.host, door.port, ssl=_tls(door))
            writer.write(_request(door, stream=stream))
            while seen.ended != "complete":
                data = await reader.read(_PIECE_BYTES)
                answer.feed(data)
                if not data:
                    break
    except TimeoutError:
        seen.ended = "hung"
    except (OSError, httptools.HttpParserError):
        seen.ended = "cut" if seen.status else "refused"
    finally:
        answer.close()
        if writer:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return seen


class _Answer:
    """Takes the bytes of one answer apart; httptools calls the methods that begin with `on_`."""

    def __init__(self, seen: Seen, began_at: float) -> None:
        self._seen = seen
        self._began_at = began_at
        self._heard_s = 0.0
        self._reader = Reader(seen)
        self._headers: dict[bytes, bytes] = {}
        self._parser: Any = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take a piece; b"" is the end of the connection."""
        now_s = self._now_s()
        seen = self._seen
        seen.silence_s = max(seen.silence_s, now_s - self._heard_s)
        self._heard_s = now_s
        if data:
            self._parser.feed_data(data)
        elif seen.status:
            # An answer that announces no length is ended by the end of the connection.
            delimited = b"content-length" in self._headers or b"transfer-encoding" in self._headers
            seen.ended = "cut" if delimited else "complete"

    def close(self) -> None:
        """Nothing more comes, or nothing more is waited for."""
        now_s = self._now_s()
        self._seen.silence_s = max(self._seen.silence_s, now_s - self._heard_s)
        self._reader.end(now_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        content_type = self._headers.get(b"content-type", b"").decode("latin-1")
        self._reader.head(self._parser.get_status_code(), content_type)

    def on_body(self, body: bytes) -> None:
        self._reader.feed(body, self._now_s())

    def on_message_complete(self) -> None:
        self._seen.ended = "complete"

    def _now_s(self) -> float:
        return time.monotonic() - self._began_at


def _request(door: Door, *, stream: bool) -> bytes:
    messages = [{"role": "user", "content": "Say what you say."}]
    body = json.dumps({"model": door.model, "messages": messages, **({"stream": True} if stream else {})}).encode()
    lines = (
        f"POST {door.path} HTTP/1.1",
        f"Host: {door.host}:{door.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *([f"Authorization: Bearer {door.key}"] if door.key else []),
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def _tls(door: Door) -> ssl.SSLContext | None:
    return ssl.create_default_context() if door.tls else None
