"""A bare HTTP/1.1 client for the fault tests: it sends one request and reads whatever comes."""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from mana_llm.simulator import Simulator

CHAT = {"messages": [{"role": "user", "content": "hello there"}]}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hello there"}]}]}


def path_of(dialect: str, model: str, *, stream: bool) -> str:
    """The chat path of a dialect."""
    if dialect == "gemini":
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/v1beta/models/{model}:{method}"
    return {"ollama": "/api/chat", "openai": "/v1/chat/completions"}.get(dialect, f"/{dialect}/v1/chat/completions")


def request_bytes(dialect: str, model: str, *, stream: bool = True, **more: Any) -> bytes:
    """A chat request on the wire."""
    body = CONTENTS | more if dialect == "gemini" else CHAT | {"model": model, "stream": stream} | more
    return http("POST", path_of(dialect, model, stream=stream), body)


def http(method: str, path: str, body: Any = None, headers: str = "") -> bytes:
    """Any request on the wire."""
    payload = b"" if body is None else json.dumps(body).encode()
    lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(payload)}\r\n\r\n"
    return lines.encode() + payload


class Socket:
    """One connection to the simulator."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of the next answer; interim answers are passed over."""
        while True:
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(lines[0].split()[1])
            if status >= 200:
                break
        pairs = [line.partition(": ") for line in lines[1:] if line]
        return status, {name.lower(): value for name, _, value in pairs}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """A whole answer, by its length or its chunks."""
        status, headers = await self.head()
        if "content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))
        body = b""
        while size := int((await self.reader.readline()).strip() or b"0", 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return status, headers, body

    async def rest(self) -> bytes:
        """Everything up to the end of the connection; raises ConnectionResetError on a reset."""
        return await self.reader.read(-1)

    def close(self) -> None:
        """Leave."""
        self.writer.transport.abort()


async def connect(simulator: Simulator, request: bytes = b"") -> Socket:
    """A connection with a request already sent."""
    reader, writer = await asyncio.open_connection(simulator.host, simulator.port, limit=2**22)
    writer.write(request)
    return Socket(reader, writer)


async def ask(simulator: Simulator, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """One whole answer over a connection of its own."""
    one = await connect(simulator, request)
    try:
        return await one.answer()
    finally:
        one.close()


def run(test: Callable[[Simulator], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """Run a test against a simulator of its own, never for longer than ten seconds."""

    async def inside() -> Any:
        async with Simulator(**options) as simulator, asyncio.timeout(10):
            return await test(simulator)

    return asyncio.run(inside())


def events(body: bytes) -> list[Any]:
    """The JSON documents of an SSE or NDJSON body, in order, [DONE] as a word."""
    found = re.findall(rb"^(?:data: )?([\[{].*?)\r?$", body, re.MULTILINE)
    return ["[DONE]" if item == b"[DONE]" else json.loads(item) for item in found]
