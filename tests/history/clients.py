"""Clients that keep their connections, pipeline now and then, leave when they like, and note what they got."""

import asyncio
import itertools
import json
import random
from typing import Any

import httptools

from tests.history.records import Asked

LEAVES = 0.05
PIPELINES = 0.1
CROWDS = 0.04
CROWD = 3
"""Clients that now and then ask the same at the same time."""
EMBEDS = 0.1
STREAMS = 0.5
ANSWERED_S = 20.0
"""Far beyond any limit of the gateway's: what has not come by then is lost."""


class Load:
    """What is asked for: `chat` and `embed` are models to choose from; every request has an id of its own."""

    def __init__(self, port: int, chat: tuple[str, ...], embed: tuple[str, ...], chance: random.Random) -> None:
        self.port = port
        self.random = chance
        self.asked: list[Asked] = []
        self._chat = chat
        self._embed = embed
        self._numbers = itertools.count(1)

    def ask_directly(self, names: tuple[str, ...]) -> None:
        """From now on ask these providers, too, by their own names."""
        self._chat = (*self._chat, *(f"{name}/m" for name in names))

    async def run(self, requests: int, clients: int) -> None:
        """So many requests by so many clients at a time."""
        left = itertools.count(requests, -1)
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(left))

    async def _client(self, left: Any) -> None:
        line: Line | None = None
        while next(left) > 0:
            if self.random.random() < CROWDS:
                await self._crowd()
                continue
            line = await self._usable(line)
            count = self.random.choice((2, 3)) if self.random.random() < PIPELINES else 1
            asked = [line.ask(*self._request()) for _ in range(count)]
            for _ in asked[1:]:
                next(left)
            self.asked += asked
            if self.random.random() < LEAVES:
                await line.leaves_within(self.random.choice((0.0, 0.002, 0.02, 0.2)) * self.random.random())
            else:
                await line.answered()
        if line:
            line.close()

    async def _crowd(self) -> None:
        """Several ask the same; one of them, maybe the one that is walked for, may leave."""
        lines = [await self._usable(None) for _ in range(CROWD)]
        first, fields = self._question(shared=True)
        asked = [first, *(Asked(self._name(), first.kind, first.model, says=first.id) for _ in lines[1:])]
        self.asked += [line.ask(each, _bytes_of(each, fields)) for line, each in zip(lines, asked, strict=True)]
        leaver = self.random.randrange(2 * CROWD)
        async with asyncio.TaskGroup() as group:
            for at, line in enumerate(lines):
                waits = line.leaves_within(0.02 * self.random.random()) if at == leaver else line.answered()
                group.create_task(waits)
        for line in lines:
            line.close()

    async def _usable(self, line: "Line | None") -> "Line":
        if line and line.open:
            return line
        _, line = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", self.port)
        return line

    def _name(self) -> str:
        return f"r-{next(self._numbers):07}"

    def _request(self) -> tuple[Asked, bytes]:
        """One request, and its bytes."""
        asked, fields = self._question()
        return asked, _bytes_of(asked, fields)

    def _question(self, *, shared: bool = False) -> tuple[Asked, dict[str, Any]]:
        """One request and its members; `shared` says that it is one that others may share."""
        name = self._name()
        if self.random.random() < EMBEDS:
            model = self.random.choice(self._embed)
            return Asked(name, "embeddings", model), {"model": model, "input": f"embed {name}"}
        model = self.random.choice(self._chat)
        fields: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": f"say {name} again"}]}
        if shared:
            return Asked(name, "plain", model), {**fields, "temperature": 0}
        kind = "stream" if self.random.random() < STREAMS else "plain"
        if kind == "stream":
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return Asked(name, kind, model), fields


def _bytes_of(asked: Asked, fields: dict[str, Any]) -> bytes:
    path = "/v1/embeddings" if asked.kind == "embeddings" else "/v1/chat/completions"
    body = json.dumps(fields).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        f"X-Request-Id: {asked.id}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Line(asyncio.Protocol):
    """One connection: answers belong to requests in their order, whatever they say of themselves."""

    def __init__(self) -> None:
        self.open = True
        self._due: list[Asked] = []
        self._fields: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._new_parser()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._due and self._due[0].status:
            self._due[0].body = b"".join(self._body)
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def ask(self, asked: Asked, request: bytes) -> Asked:
        asked.began_s = asyncio.get_running_loop().time()
        self._due.append(asked)
        self._transport.write(request)
        return asked

    async def answered(self) -> None:
        """Wait until every answer that is due is whole, or the connection has ended."""
        timer = asyncio.get_running_loop().call_later(ANSWERED_S, self.close)
        while self._due and self.open:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        timer.cancel()

    async def leaves_within(self, seconds: float) -> None:
        """Go, whatever is still due."""
        if seconds:
            await asyncio.sleep(seconds)
        for asked in self._due:
            asked.left = True
        self.close()
        self._transport.abort()

    def close(self) -> None:
        self.open = False
        self._transport.close()
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    # What the parser tells.

    def _new_parser(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self._fields, self._body = [], []
        assert self._due, "an answer that nobody asked for"

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.decode().lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._due[0].status = self._parser.get_status_code()
        self._due[0].headers = dict(self._fields)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        asked = self._due.pop(0)
        asked.body, asked.whole = b"".join(self._body), True
        asked.ended_s = asyncio.get_running_loop().time()
        if asked.headers.get("connection") == "close":
            self.open = False
        if not self._due:
            self._wake()
