"""Bytes in, bytes out: a client that sends exactly what it is told, and an application that notes what it saw."""

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from mana_llm.edge.common import Common, EdgeLimits
from mana_llm.edge.doorkeeper import Doorkeeper
from mana_llm.edge.lifecycle import Drain, Lifecycle
from mana_llm.edge.server import make_server
from mana_llm.kit.ids import Ids
from mana_llm.kit.outbox import Outbox
from mana_llm.observe.clock import SystemClock
from mana_llm.observe.metrics import Metrics, Sources
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.settings import Secret
from mana_llm.upstream.client import soon

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
MODEL = "openai/gpt-4o-mini"
LIMITS = {"header_s": 5.0, "body_s": 5.0, "stall_s": 5.0, "keep_alive_s": 5.0, "body_bytes_max": 1 << 20}
KEYS = (Secret("secret"),)
ENOUGH_S = 20.0


class Answer(NamedTuple):
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object; fails if the body is not in OpenAI's shape, all four members present."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        return error


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer, 100s included; a header that comes twice is a failure."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in lines[1:-2]]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs)
        return int(status), headers

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """The next whole answer."""
        async with asyncio.timeout(ENOUGH_S):
            status, headers = await self.head()
            if bodiless or status in (100, 204, 304):
                return Answer(status, headers, b"")
            if "content-length" in headers:
                return Answer(status, headers, await self.reader.readexactly(int(headers["content-length"])))
            if "transfer-encoding" not in headers:
                return Answer(status, headers, await self.reader.read(-1))
            body = b""
            while size := int((await self.reader.readline()).strip(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return Answer(status, headers, body)

    async def ended(self, within_s: float = ENOUGH_S) -> bytes:
        """What came before the connection ended, which it does in time; by a reset, too."""
        data = b""
        async with asyncio.timeout(within_s):
            with suppress(ConnectionError):
                while piece := await self.reader.read(1 << 16):
                    data += piece
        return data

    def reset(self) -> None:
        """Leave by a reset."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


@asynccontextmanager
async def client(port: int, receive_bytes: int = 0) -> AsyncIterator[Client]:
    """A connection; `receive_bytes` makes its receive buffer that small."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_bytes or 1 << 20)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def ask(port: int, data: bytes, *, bodiless: bool = False) -> Answer:
    """One answer over a connection of its own."""
    async with client(port) as one:
        one.send(data)
        return await one.answer(bodiless=bodiless)


def request(method: str, path: str, body: bytes | None = None, *more: str) -> bytes:
    """A request with Host, and Content-Length if there is a body."""
    fields = ["Host: gateway", *more, *([f"Content-Length: {len(body)}"] if body is not None else [])]
    lines = (f"{method} {path} HTTP/1.1", *fields, "", "")
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


def chat_body(**fields: Any) -> bytes:
    """A chat request's body."""
    return json.dumps({"model": MODEL, "messages": HELLO, **fields}).encode()


def chat(*lines: str, body: bytes | None = None, **fields: Any) -> bytes:
    """A chat request."""
    return request("POST", CHAT, chat_body(**fields) if body is None else body, *lines)


class Seen(NamedTuple):
    """A request as the application saw it."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Edge:
    """A connection server whose application notes requests, and answers what it saw."""

    def __init__(self, server: Any, port: int, seen: list[Seen]) -> None:
        self.server = server
        self.port = port
        self.seen = seen


@asynccontextmanager
async def edge(app: Any = None, **limits: Any) -> AsyncIterator[Edge]:
    """The real connections before `app`, by default one that notes every request and answers it with its body."""
    seen: list[Seen] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        if app is not None:
            await app(scope, receive, send)
            return
        body = (await receive())["body"]
        seen.append(Seen(scope["method"], scope["path"], list(scope["headers"]), body))
        headers = [(b"content-length", b"%d" % len(body)), (b"x-path", scope["raw_path"])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    metrics = Metrics(Sources(version="", healthy=dict, known=lambda _: False, facts=lambda *_: None))
    aliases = AliasRegistry("aliases: {mana/any: {chain: [lab/any]}}\ndefault: mana/any", {"lab": ""}, "lab")
    doorkeeper = Doorkeeper(metrics, SystemClock(), Ids("req-"), aliases)
    common = Common(doorkeeper, Lifecycle(), Outbox(soon))
    server = make_server(noting, EdgeLimits(**{**LIMITS, **limits}), common, Drain(0.0, 0.1))
    stopping = asyncio.Event()

    async def main_loop() -> None:
        while not await server.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.1)

    server.main_loop = main_loop
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(ENOUGH_S):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
    try:
        yield Edge(server, listener.getsockname()[1], seen)
    finally:
        server.should_exit = True
        stopping.set()
        await serving


async def until(holds: Any, within_s: float = 5.0) -> None:
    """Poll until something holds, which it does in time."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what is polled has no event
            await asyncio.sleep(0.005)


def run(test: Coroutine[Any, Any, Any]) -> Any:
    """Run a test on the loop that the gateway runs on."""
    return uvloop.run(test)


def corpus(name: str) -> Path:
    """A folder or file of the corpora; skips the test where they are not."""
    root = Path(os.environ.get("MANA_LLM_CORPORA") or Path(__file__).resolve().parents[3] / "shared" / "corpora")
    if not (root / name).exists():
        pytest.skip(f"no corpora: {root / name} is not there (set MANA_LLM_CORPORA)")
    return root / name
