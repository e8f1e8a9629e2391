"""A provider that says the request's own id and its own name in every chunk, and notes what it did."""

import asyncio
import itertools
import json
import random
import re
from typing import Any

from tests.history.records import Called

ID = re.compile(rb"r-\d{7}")
HEAD = "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
FAILS = 0.015
BREAKS = 0.015
PAUSES = 0.25
"""The shares of calls that are refused, of streams that break in the middle, and of those that take their time."""


class Upstream:
    """One OpenAI-compatible server; `log` has every call. It is as good as its `random` says."""

    def __init__(self, name: str, log: list[Called], numbers: itertools.count, chance: random.Random) -> None:  # type: ignore[type-arg]
        self.name = name
        self.log = log
        self.numbers = numbers
        self.random = chance
        self.faulty = True
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; gives the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        if self._server:
            self._server.close()


class Connection(asyncio.Protocol):
    """One connection: whole requests, one after the other."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = re.search(rb"(?i)content-length: *(\d+)", self._buffer[:end])
        whole = end + (int(length[1]) if length else 0)
        if len(self._buffer) < whole:
            return
        head, body, self._buffer = self._buffer[:end], self._buffer[end:whole], self._buffer[whole:]
        assert not self._buffer, "the gateway does not pipeline"
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        up = self._upstream
        if head.startswith(b"GET "):
            self._whole({"object": "list", "data": [{"id": name, "object": "model"} for name in ("m", "e")]})
            return
        asked = json.loads(body)
        found = ID.findall(body)
        assert len(found) == 1, "a request holds one id"
        number = next(up.numbers)
        call = Called(found[0].decode(), f"{up.name}/{asked['model']}", number)
        up.log.append(call)
        if up.faulty and up.random.random() < FAILS:
            self._whole({"error": {"message": "no", "type": "server_error"}}, "500 Internal Server Error")
        elif b"/embeddings" in head:
            call.tokens, call.vector = (number, 0), [float(number), 1.5]
            row = {"object": "embedding", "index": 0, "embedding": call.vector}
            usage = {"prompt_tokens": number, "total_tokens": number}
            call.whole = True
            self._whole({"object": "list", "model": "e", "data": [row], "usage": usage})
        else:
            count = up.random.randint(1, 9)
            call.pieces = [f"<{call.id} {up.name} {number} {at} ü>" for at in range(count)]
            call.tokens = (number, count)
            self._task = asyncio.get_running_loop().create_task(self._chat(call, stream=bool(asked.get("stream"))))

    async def _chat(self, call: Called, *, stream: bool) -> None:
        chance = self._upstream.random
        pause_s = chance.random() * 0.02 if chance.random() < PAUSES else 0.0
        usage = {
            "prompt_tokens": call.tokens[0],
            "completion_tokens": call.tokens[1],
            "total_tokens": sum(call.tokens),
        }
        fields = {"id": f"chatcmpl-{call.number}", "created": 1, "model": "m"}
        if not stream:
            await asyncio.sleep(pause_s)
            choice = {"index": 0, "message": {"role": "assistant", "content": call.text}, "finish_reason": "stop"}
            call.sent, call.whole = len(call.pieces), True
            self._whole({**fields, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        breaks_at = chance.randint(0, 9) if self._upstream.faulty and chance.random() < BREAKS else -1
        self._transport.write(
            (HEAD.format(status="200 OK", kind="text/event-stream") + "Transfer-Encoding: chunked\r\n\r\n").encode()
        )
        fields["object"] = "chat.completion.chunk"
        for at, piece in enumerate(call.pieces):
            if at == breaks_at:
                self._transport.abort()
                return
            delta = {"role": "assistant", "content": piece} if not at else {"content": piece}
            self._event({**fields, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            call.sent += 1
            if pause_s:
                await asyncio.sleep(pause_s)
        self._event({**fields, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({**fields, "choices": [], "usage": usage})
        call.whole = True
        self._piece(b"data: [DONE]\n\n")
        self._transport.write(b"0\r\n\r\n")

    def _event(self, event: dict[str, Any]) -> None:
        self._piece(b"data: %b\n\n" % json.dumps(event, ensure_ascii=False).encode())

    def _piece(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _whole(self, value: Any, status: str = "200 OK") -> None:
        body = json.dumps(value, ensure_ascii=False).encode()
        head = HEAD.format(status=status, kind="application/json") + f"Content-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
