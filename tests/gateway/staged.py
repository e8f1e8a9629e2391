"""Upstreams that wait for a test's word: who was asked, who was let go, and when each may speak."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.caller import counted
from tests.puppet import STREAM_HEAD, answer, puppet, request_of
from tests.world import World, gateway

DONE = b"data: [DONE]\n\n"
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
MODELS = ("openai/any", "groq/any", "together/any")


def delta(text: str, index: int = 0) -> bytes:
    """A chunk that says `text`, with an identity of the upstream's own."""
    choice = {"index": index, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    chunk = {"id": "theirs", "created": 1, "model": "theirs", "choices": [choice]}
    return b"data: %b\n\n" % json.dumps(chunk).encode()


def failing(status: int, code: str = "odd", *headers: bytes) -> bytes:
    """A whole error answer."""
    error = {"error": {"message": "said no", "type": "t", "param": None, "code": code}}
    lines = b"".join(line + b"\r\n" for line in headers)
    head = b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nConnection: close\r\n%b" % (status, lines)
    return answer(json.dumps(error).encode(), head)


def whole(text: str) -> bytes:
    """A whole plain answer."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return answer(json.dumps(body).encode(), head)


def streamed(*texts: str, usage: bool = True) -> bytes:
    """A whole streamed answer."""
    used = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}\n\n'
    return STREAM_HEAD + b"".join(map(delta, texts)) + FINISH + (used if usage else b"") + DONE


class Actor:
    """An upstream. A chat request waits for `say`, which may be called before it and more than once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.asked_count = 0
        self.here = 0
        self.wrote_at = self.left_at = 0.0
        """The loop's time of the last repeated answer, and of the last end."""
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._repeats: bytes | None = None

    def say(self, *pieces: bytes, end: bool = True) -> None:
        """Write these pieces; then close, unless more is to come."""
        for piece in pieces:
            self._lines.put_nowait(piece)
        if end:
            self._lines.put_nowait(None)

    def always(self, reply: bytes) -> None:
        """Give every request this answer, at once."""
        self._repeats = reply

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await request_of(reader)
        if not head.startswith(b"POST "):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        self.asked_count += 1
        self.here += 1
        self.asked.set()
        try:
            if self._repeats is not None:
                writer.write(self._repeats)
                self.wrote_at = asyncio.get_running_loop().time()
                return
            gone = asyncio.create_task(reader.read(1))
            while True:
                line = asyncio.create_task(self._lines.get())
                await asyncio.wait([gone, line], return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    line.cancel()
                    return
                if (piece := line.result()) is None:
                    gone.cancel()
                    return
                writer.write(piece)
                await writer.drain()
        finally:
            self.here -= 1
            self.left_at = asyncio.get_running_loop().time()
            self.left.set()


class Stage:
    """A gateway before three actors, which are the entries of `mana/three`."""

    def __init__(self, running: World, actors: list[Actor]) -> None:
        self.running = running
        self.port = running.port
        self.actors = actors

    def count(self, name: str, **labels: str) -> float:
        """One of the gateway's metrics."""
        return counted(self.running.application.metrics.text(), name, **labels)

    def quiet(self) -> bool:
        """Whether nothing is under way: no request, no place taken, nobody working upstream."""
        gates = self.running.application.admission.gates.values()
        return not (self.count("mana_llm_in_flight") or any(gate.in_flight for gate in gates))


@asynccontextmanager
async def stage(
    folder: Path, policy: str = "", chain: tuple[str, ...] = MODELS, **settings: Any
) -> AsyncIterator[Stage]:
    """`policy` is the alias's, such as `hedge_after_s: 1`; `chain` its entries."""
    actors = [Actor() for _ in MODELS]
    entries = ", ".join(chain)
    aliases = f"aliases: {{mana/three: {{{policy + ', ' if policy else ''}chain: [{entries}]}}}}\ndefault: mana/three\n"
    first, second, third = actors
    chosen = {"probe_interval_s": 0.0, "drain_s": 0.1, **settings}
    async with puppet(first.play) as one, puppet(second.play) as two, puppet(third.play) as three:
        urls = {"openai_base_url": one, "groq_base_url": two, "together_base_url": three}
        async with gateway(aliases, folder, **{**urls, **chosen}) as running:
            yield Stage(running, actors)


async def until(condition: Callable[[], Any]) -> None:
    """Ask again until it holds; ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the gateway's own counters have no event
            await asyncio.sleep(0.002)
