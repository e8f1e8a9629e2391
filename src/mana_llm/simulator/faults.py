"""What goes wrong, one function each: a fault changes the reply's head, its frames, or what follows it.

Nothing here knows a dialect: the dialect's voice makes error bodies and in-band errors, and the faults in an
answer's content are made where the content is made (`texts`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from mana_llm.simulator.reply import End, Frame, Reply, wrapped
from mana_llm.simulator.script import Fault
from mana_llm.simulator.voice import Voice
from mana_llm.simulator.wire import Framing

Frames = Iterator[Frame | End]
FLOOD_BLOCK: Final = b"flood " * 10923  # 64 KiB, about what one socket write takes
MALFORMED: Final = b'{"simulated": "broken", "choices": [{'
_replace = msgspec.structs.replace


def changed_reply(reply: Reply, fault: Fault | None, voice: Voice) -> Reply:
    """The reply with the fault's status, body, type or headers; unchanged by the other faults."""
    change = _REPLY_FAULTS.get(fault.kind) if fault else None
    return change(reply, fault, voice) if change and fault else reply


def changed_frames(reply: Reply, fault: Fault | None, voice: Voice) -> Iterable[Frame | End]:
    """The frames that are really sent, with the End that a fault puts among them."""
    change = _FRAME_FAULTS.get(fault.kind) if fault else None
    return change(_halved(reply), fault, voice) if change and fault else reply.frames


def framing(reply: Reply, fault: Fault | None) -> Framing:
    """How the body's end is marked."""
    if fault and fault.kind == "undelimited":
        return "undelimited"
    if fault and fault.kind == "overlong":
        return "overlong"
    ends_early = fault is not None and fault.how in ("clean", "json")
    adds = fault is not None and fault.kind in ("flood", "malformed", "error")
    return "length" if reply.wrapping == "whole" and not ends_early and not adds else "chunked"


# --- faults of the reply ---


def _status(_reply: Reply, fault: Fault, voice: Voice) -> Reply:
    return voice.refusal(fault)


def _html(reply: Reply, _fault: Fault, _voice: Voice) -> Reply:
    page = b"<!doctype html><title>[simulated]</title><p>A captive portal, not a model.</p>"
    return Reply(200, (Frame(page),), content_type="text/html; charset=utf-8", headers=reply.headers)


def _type(reply: Reply, fault: Fault, _voice: Voice) -> Reply:
    return _replace(reply, content_type=(fault.how or "text-plain").replace("-", "/", 1))


def _redirect(_reply: Reply, fault: Fault, _voice: Voice) -> Reply:
    # The default is the cloud metadata address: the place that a client must never be led to.
    target = fault.message or "http://169.254.169.254/latest/meta-data/"
    return Reply(fault.code or 302, (Frame(b""),), headers=(("Location", target),))


def _headers(reply: Reply, fault: Fault, _voice: Voice) -> Reply:
    count, size = fault.count or 200, fault.bytes or 65536
    added = {
        "cookie": (("Set-Cookie", "session=simulated; Path=/"), ("Set-Cookie", "other=1")),
        "hop": (("Keep-Alive", "timeout=5"), ("Proxy-Authenticate", "Basic"), ("Trailer", "X-Late"),
                ("Upgrade", "h2c"), ("Connection", "X-Listed"), ("X-Listed", "hop by hop")),
        "te": (("Transfer-Encoding", "identity"), ("Content-Length", "5")),
        "latin1": (("X-Simulated", "caf\xe9 \xff"),),
        "many": tuple((f"X-Simulated-{number}", "1") for number in range(count)),
        "big": (("X-Simulated", "x" * size),),
    }  # fmt: skip
    return _replace(reply, headers=reply.headers + added.get(fault.how, ()))


def _gzip(reply: Reply, fault: Fault, _voice: Voice) -> Reply:
    if fault.how == "bomb":
        packed = _bomb(fault.bytes or 32 * 2**20)
    else:
        parts = [part[0] for part in wrapped(reply.frames, reply.wrapping) if not isinstance(part, End)]
        packer = zlib.compressobj(wbits=31)
        packed = packer.compress(b"".join(parts)) + packer.flush()
    headers = (*reply.headers, ("Content-Encoding", "gzip"))
    return _replace(reply, frames=(Frame(packed, "raw"),), headers=headers, wrapping="whole")


def _bomb(unpacked_bytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    block = b" " * 2**20
    packed = [packer.compress(block) for _ in range(unpacked_bytes // len(block) + 1)]
    return b"".join(packed) + packer.flush()


# --- faults of the frames ---


def _halved(reply: Reply) -> tuple[Frame, ...]:
    if reply.wrapping != "whole" or not reply.frames:
        return reply.frames
    # A whole answer counts as two pieces, so that "after 1" is the middle of its body.
    payload = reply.frames[0].payload
    middle = len(payload) // 2
    return (Frame(payload[:middle]), Frame(payload[middle:]))


def _before(frames: Iterable[Frame], after: int) -> tuple[list[Frame], list[Frame]]:
    """The frames before the fault's place and those behind it; the place is never behind the finish."""
    taken, rest, seen = list[Frame](), list(frames), 0
    while rest:
        item = rest[0]
        if item.kind in ("finish", "done") or (item.kind == "text" and seen >= after):
            break
        seen += item.kind == "text"
        taken.append(rest.pop(0))
    return taken, rest


def _hang(frames: tuple[Frame, ...], fault: Fault, _voice: Voice) -> Frames:
    if fault.how == "chunks":
        yield from _before(frames, fault.after)[0]
    elif fault.how == "role":
        yield from (item for item in _before(frames, 0)[0] if item.kind in ("role", "comment"))
    yield End("hang")


def _cut(frames: tuple[Frame, ...], fault: Fault, _voice: Voice) -> Frames:
    taken, rest = _before(frames, fault.after)
    yield from taken
    if fault.how == "json" and rest:
        yield _replace(rest[0], kind="half")
    yield End({"json": "clean", "": "fin"}.get(fault.how, fault.how))


def _error(frames: tuple[Frame, ...], fault: Fault, voice: Voice) -> Frames:
    yield from _before(frames, fault.after)[0]
    yield from voice.trouble(fault)
    yield End("clean")


def _malformed(frames: tuple[Frame, ...], fault: Fault, _voice: Voice) -> Frames:
    taken, rest = _before(frames, fault.after)
    yield from (*taken, Frame(MALFORMED), *rest)


def _no_done(frames: tuple[Frame, ...], _fault: Fault, _voice: Voice) -> Frames:
    kept = [item for item in frames if item.payload != b"[DONE]"]
    # Where no [DONE] exists, the finish itself is the last mark.
    yield from kept if len(kept) < len(frames) else _before(frames, len(frames))[0]
    yield End("clean")


def _no_finish(frames: tuple[Frame, ...], _fault: Fault, _voice: Voice) -> Frames:
    yield from (item for item in frames if item.kind != "finish")


def _flood(frames: tuple[Frame, ...], fault: Fault, _voice: Voice) -> Frames:
    taken, rest = _before(frames, 1)
    yield from taken
    piece = next((item for item in taken if item.kind == "text"), Frame(b"{}"))
    while fault.how in ("", "chunks"):
        yield piece
    if fault.how == "event":
        yield Frame(b'{"simulated":"' + b"x" * fault.bytes + b'"}')
        yield from rest
        return
    sent = 0
    while not fault.bytes or sent < fault.bytes:
        yield Frame(FLOOD_BLOCK, "raw")
        sent += len(FLOOD_BLOCK)


_ReplyFault = Callable[[Reply, Fault, Voice], Reply]
_FrameFault = Callable[[tuple[Frame, ...], Fault, Voice], Frames]
_REPLY_FAULTS: Final[Mapping[str, _ReplyFault]] = MappingProxyType(
    {
        "status": _status,
        "html": _html,
        "type": _type,
        "redirect": _redirect,
        "headers": _headers,
        "gzip": _gzip,
    }
)
_FRAME_FAULTS: Final[Mapping[str, _FrameFault]] = MappingProxyType(
    {
        "hang": _hang,
        "cut": _cut,
        "error": _error,
        "malformed": _malformed,
        "no-done": _no_done,
        "no-finish": _no_finish,
        "flood": _flood,
    }
)
