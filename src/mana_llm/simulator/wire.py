"""From frames to steps: HTTP framing, slicing and pauses, all pure, for a connection to play."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from mana_llm.simulator.http import head
from mana_llm.simulator.reply import End, Frame, Headers, Reply, wrapped

Framing = Literal["length", "chunked", "undelimited", "overlong"]
LAST_CHUNK: Final = b"0\r\n\r\n"


class Write(msgspec.Struct, frozen=True):
    """Send these bytes."""

    data: bytes


class Wait(msgspec.Struct, frozen=True):
    """Do nothing for so long (infinity: until the client leaves)."""

    seconds: float


class Sent(msgspec.Struct, frozen=True):
    """The answer is whole; what follows belongs to no answer."""


Step = Write | Wait | Sent | End


class Performance(msgspec.Struct, frozen=True):
    """What to send: the reply (its head and size) and the frames that really go out.

    `extra_bytes` is added to an overlong Content-Length; `interim` bytes go before the head.
    """

    reply: Reply
    frames: Iterable[Frame | End]
    framing: Framing
    extra_bytes: int = 0
    interim: bytes = b""
    dates: Headers = ()


def steps(performance: Performance) -> Iterator[Step]:
    """The steps of one answer, from its status line to its last byte."""
    reply, framing = performance.reply, performance.framing
    pending = performance.interim + head(reply.status, _headers(performance))
    for item in wrapped(performance.frames, reply.wrapping):
        if isinstance(item, End) and item.how != "clean":
            yield Write(pending)
            yield item
            return
        data, pause_s = (b"", 0.0) if isinstance(item, End) else item
        # The head of a whole answer travels with its body; a stream's head goes out at once.
        if pending and (pause_s or framing != "length"):
            yield Write(pending)
            pending = b""
        if pause_s:
            yield Wait(pause_s)
        sent = _chunk(data) if framing == "chunked" else data
        if pending or sent:
            yield Write(pending + sent)
        pending = b""
    if framing == "chunked":
        yield Write(pending + LAST_CHUNK)
    elif pending:
        yield Write(pending)
    if framing != "overlong":
        yield Sent()
    if framing in ("undelimited", "overlong"):
        yield End("fin")


def sliced(inner: Iterator[Step], slice_bytes: int, pace_s: float) -> Iterator[Step]:
    """The same steps with each write cut into slices, `pace_s` apart."""
    for step in inner:
        if not isinstance(step, Write):
            yield step
            continue
        for start in range(0, len(step.data), slice_bytes):
            yield Write(step.data[start : start + slice_bytes])
            if pace_s:
                yield Wait(pace_s)


def _headers(performance: Performance) -> Headers:
    reply = performance.reply
    headers: Headers = (("Content-Type", reply.content_type), *performance.dates, *reply.headers)
    size = sum(len(frame.payload) for frame in reply.frames) + performance.extra_bytes
    if performance.framing in ("length", "overlong"):
        return (*headers, ("Content-Length", str(size)))
    if performance.framing == "chunked":
        return (*headers, ("Transfer-Encoding", "chunked"))
    return (*headers, ("Connection", "close"))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
