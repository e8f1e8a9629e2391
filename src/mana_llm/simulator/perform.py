"""From a reply and a script to the steps that a connection plays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mana_llm.simulator.faults import changed_frames, changed_reply, framing
from mana_llm.simulator.reply import End, Frame, Reply, Wrapping
from mana_llm.simulator.script import Fault, Script
from mana_llm.simulator.voice import Voice
from mana_llm.simulator.wire import Performance, Step, Wait, Write, sliced, steps

IDLE_BYTES: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
EARLY_HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </simulated>\r\n\r\n"
IDLE_BYTES_AFTER_S: Final = 0.02
DRIP_PACE_S: Final = 0.001
OVERLONG_BYTES: Final = 100
# See texts.NAN_COUNT: the total that contains it begins alike.
_NAN: Final = re.compile(rb"9876\d{8}")
_replace = msgspec.structs.replace


def perform(reply: Reply, script: Script, voice: Voice, *, bodiless: bool = False) -> Iterator[Step]:
    """The steps of one answer under this script; `bodiless` is the answer to a HEAD."""
    fault = script.fault
    if fault and fault.kind == "refuse":
        yield End("rst")
        return
    if fault and fault.kind == "hang" and fault.how in ("", "headers"):
        yield End("hang")
        return
    if script.first_s:
        yield Wait(script.first_s)
    reply = changed_reply(_decorated(reply, script), fault, voice)
    frames: Iterable[Frame | End] = () if bodiless else changed_frames(reply, fault, voice)
    if fault and fault.kind == "usage" and fault.how == "nan":
        reply = _replace(reply, frames=tuple(_with_nan(frame) for frame in reply.frames))
        frames = reply.frames
    extra = (fault.bytes or OVERLONG_BYTES) if fault and fault.kind == "overlong" else 0
    interim = EARLY_HINTS * (fault.count or 100) if fault and fault.how == "interim" else b""
    inner = steps(Performance(reply, frames, framing(reply, fault), extra, interim))
    if fault and fault.kind == "drip":
        inner = sliced(inner, 1, fault.pace_s or DRIP_PACE_S)
    elif script.slice_bytes:
        inner = sliced(inner, script.slice_bytes, 0.0)
    yield from inner
    yield from _afterwards(fault)


def _afterwards(fault: Fault | None) -> Iterator[Step]:
    if fault is None:
        return
    if fault.kind == "idle-bytes":
        yield Wait(fault.pace_s or IDLE_BYTES_AFTER_S)
        yield Write(IDLE_BYTES)
    elif fault.kind == "close":
        yield End(fault.how or "fin")
    elif fault.kind == "dead":
        yield End(f"dead-{fault.how or 'fin'}")


def _decorated(reply: Reply, script: Script) -> Reply:
    headers = reply.headers + tuple(script.headers.items())
    if reply.wrapping == "whole":
        return _replace(reply, headers=headers)
    wrapping: Wrapping = reply.wrapping
    if script.crlf is not None and wrapping.startswith("sse"):
        wrapping = "sse-crlf" if script.crlf else "sse"
    count = reply.comments if script.comments is None else script.comments
    frames = tuple(_paced(_commented(reply.frames, count, wrapping), script.pace_s))
    return _replace(reply, headers=headers, wrapping=wrapping, frames=frames)


def _commented(frames: tuple[Frame, ...], count: int, wrapping: Wrapping) -> Iterator[Frame]:
    if not count or not wrapping.startswith("sse"):
        yield from frames
        return
    # Some comments stand before the data and one, bare, after each piece.
    for _ in range(count):
        yield Frame(b" OPENROUTER PROCESSING", "comment")
    for frame in frames:
        yield frame
        if frame.kind == "text":
            yield Frame(b" ", "comment")


def _paced(frames: Iterable[Frame], pace_s: float) -> Iterator[Frame]:
    begun = False
    for frame in frames:
        paces = pace_s and begun and frame.kind == "text"
        yield _replace(frame, pause_s=pace_s) if paces else frame
        begun = begun or frame.kind == "text"


def _with_nan(frame: Frame) -> Frame:
    return _replace(frame, payload=_NAN.sub(b"NaN", frame.payload))
