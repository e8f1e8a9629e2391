"""An answer before it is bytes: frames of JSON with their kinds, and the wrapping that makes lines of them.

Dialects build replies, faults change them, `wire` turns them into steps; none of the three knows the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

# "text" is any content (reasoning, text, tool calls): what `after` counts. "raw" passes unwrapped;
# "half" is wrapped and then cut in the middle.
FrameKind = Literal["role", "text", "finish", "usage", "done", "comment", "raw", "half"]
Wrapping = Literal["whole", "sse", "sse-crlf", "ndjson", "array"]
Headers = tuple[tuple[str, str], ...]


class Frame(msgspec.Struct, frozen=True):
    """One JSON document of an answer (or what its kind says), sent `pause_s` after the last one."""

    payload: bytes
    kind: FrameKind = "text"
    pause_s: float = 0.0
    event: str = ""


class Reply(msgspec.Struct, frozen=True):
    """A whole HTTP answer; a `whole` one has exactly one frame and a Content-Length.

    `comments` is how many SSE comments this upstream sends when no script says otherwise.
    """

    status: int
    frames: tuple[Frame, ...]
    content_type: str = "application/json; charset=utf-8"
    wrapping: Wrapping = "whole"
    headers: Headers = ()
    comments: int = 0


class RefusedError(Exception):
    """The request is refused with this reply, as the real server would refuse it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class End(msgspec.Struct, frozen=True):
    """The answer ends here: clean, fin, rst, half (only the write side), hang, dead-fin or dead-rst.

    The dead ones end the connection when the next request comes.
    """

    how: str


def whole(status: int, body: object, headers: Headers = ()) -> Reply:
    """A reply of one JSON document."""
    return Reply(status, (Frame(msgspec.json.encode(body)),), headers=headers)


def frame(body: object, kind: FrameKind = "text", pause_s: float = 0.0) -> Frame:
    """A frame of one JSON document."""
    return Frame(msgspec.json.encode(body), kind, pause_s)


def wrapped(frames: Iterable[Frame | End], wrapping: Wrapping) -> Iterator[tuple[bytes, float] | End]:
    """The bytes of each frame with its pause; an array's bracket is closed only when no End came."""
    first = True
    for item in frames:
        if isinstance(item, End):
            yield item
            return
        yield _bytes_of(item, wrapping, first=first), item.pause_s
        first = first and item.kind in ("raw", "comment")
    if wrapping == "array":
        yield b"[]" if first else b"\r\n]", 0.0


def _bytes_of(item: Frame, wrapping: Wrapping, *, first: bool) -> bytes:
    if item.kind == "half":
        uncut = _bytes_of(msgspec.structs.replace(item, kind="text"), wrapping, first=first)
        return uncut[: max(1, len(uncut) // 2)]
    if item.kind == "raw" or wrapping == "whole":
        return item.payload
    if wrapping == "ndjson":
        return item.payload + b"\n"
    if wrapping == "array":
        return (b"[" if first else b",\r\n") + item.payload
    line_end = b"\r\n" if wrapping == "sse-crlf" else b"\n"
    if item.kind == "comment":
        return b":" + item.payload + line_end * 2
    event = b"event: " + item.event.encode() + line_end if item.event else b""
    return event + b"data: " + item.payload + line_end * 2
