"""A client that does only what it is told: one request per connection, its answer read whole or event by event."""

import asyncio
import json
import socket
import struct
from typing import Any

import httptools
from prometheus_client.parser import text_string_to_metric_families

from tests import jumping

HELLO = [{"role": "user", "content": "Hello"}]
ANSWERED_S = 10.0


class Answer:
    """What came back; httptools fills it in."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.fields: list[tuple[str, str]] = []
        self.event_count = 0
        self.complete = False
        self._body = bytearray()
        self._parser: Any = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.decode().lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.headers = dict(self.fields)

    def on_body(self, body: bytes) -> None:
        seam = max(0, len(self._body) - 1)
        self._body += body
        # A blank line across the seam is counted now, one before it was counted already.
        self.event_count += self._body.count(b"\n\n", seam)

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def body(self) -> bytes:
        return bytes(self._body)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The JSON of every event; [DONE] is the string."""
        whole = self.body.rpartition(b"\n\n")[0]
        found = [event.removeprefix(b"data: ") for event in whole.split(b"\n\n") if event]
        return ["[DONE]" if event == b"[DONE]" else json.loads(event) for event in found]

    @property
    def text(self) -> str:
        """The text of the first choice, of a whole or a streamed answer."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            chunks = [event for event in self.events if event != "[DONE]" and event.get("choices")]
            return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
        return str(self.json["choices"][0]["message"]["content"])


class Exchange:
    """One request under way on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.answer = Answer()
        self._reader = reader
        self._writer = writer

    async def more(self) -> bool:
        """Take the next piece; False at the end of the connection."""
        data = await self._reader.read(65536)
        if data:
            self.answer.feed(data)
        return bool(data)

    async def until_events(self, count: int) -> None:
        """Read until so many events have come."""
        while self.answer.event_count < count and not self.answer.complete:
            assert await self.more(), "the connection ended"

    async def whole(self) -> Answer:
        """Read to the end of the answer, or of the connection."""
        while not self.answer.complete and await self.more():
            pass
        return self.answer

    def close(self) -> None:
        """Leave, politely."""
        self._writer.close()

    def reset(self) -> None:
        """Leave by a reset."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def stop_reading(self) -> None:
        """Take nothing more from the socket."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def half_close(self) -> None:
        """Shut our side and keep listening."""
        self._writer.write_eof()


async def begin(port: int, head: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Exchange:
    """Send a request; `head` is such as `GET /metrics`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    fields = {"Host": "gateway", "Connection": "close", "Content-Length": str(len(body))}
    if body:
        fields["Content-Type"] = "application/json"
    fields |= headers or {}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"{head} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
    return Exchange(reader, writer)


async def call(port: int, head: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
    """Send a request and read its answer to the end."""
    exchange = await begin(port, head, body, headers)
    try:
        # Virtual time costs no patience.
        async with asyncio.timeout(None if jumping.current() else ANSWERED_S):
            return await exchange.whole()
    finally:
        exchange.close()


def body_for(model: str, *, stream: bool = False, **fields: Any) -> bytes:
    """A chat request's body."""
    asked = {"model": model, "messages": HELLO, **({"stream": True} if stream else {}), **fields}
    return json.dumps(asked).encode()


async def begin_chat(port: int, model: str, *, stream: bool = False, **fields: Any) -> Exchange:
    """Send a chat request."""
    return await begin(port, "POST /v1/chat/completions", body_for(model, stream=stream, **fields))


async def chat(port: int, model: str, *, stream: bool = False, **fields: Any) -> Answer:
    """Send a chat request and read its answer to the end."""
    return await call(port, "POST /v1/chat/completions", body_for(model, stream=stream, **fields))


def counted(text: bytes, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels, read by Prometheus' own parser."""
    families = text_string_to_metric_families(text.decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())
