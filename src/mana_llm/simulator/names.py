"""Scripts inside model names, in a grammar that survives a Gemini path and an Ollama name.

    name    = ["vendor/"] "sim" *("." word) [":" tag]
    word    = kind | setting ["-" value]

The first word is the kind: `ok`, `tools`, `think`, or any fault of `script.FaultKind`; the others are
settings.
A full stop separates words only before a letter, so that `pace-0.05` is one word. Examples:

    sim.ok.chunks-20.pace-0.05.bytes-2000     twenty pieces of a 2,000 byte text, 50 ms apart
    sim.cut.after-3.how-rst                   three pieces, then a reset
    sim.status.code-429.retry-5               the dialect's 429 with its way to say "in five seconds"
    sim.hang.how-role                         the role chunk, then silence
    sim.tools.calls-2.comments-3              two tool calls among SSE comments

| setting | value | sets |
|---|---|---|
| after, how, code, reason, count | number or word | the fault's member of that name |
| retry | any word | the fault's retry_after (Gemini: RetryInfo) |
| size | bytes | the fault's bytes (flood, headers, gzip, overlong) |
| drip, wait | seconds | the fault's pace_s |
| chunks | number | pieces of the text |
| first, pace | seconds | delay before the first byte; between pieces |
| bytes | bytes | length of the answer's text |
| think | bytes | length of the reasoning text (0: none) |
| calls | number | tool calls, when the request offers tools |
| usage | separate, finish, both, x_groq, none | where streamed usage sits |
| finish | stop, length, tool_calls, content_filter, eos | the finish reason |
| comments | number | SSE comments before the data and between |
| crlf, role | no value | CRLF line ends; the role on each delta |
| slice | bytes | write the answer in slices |
| key | any word | refuse every other API key |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, get_args

import msgspec

from mana_llm.simulator.script import FaultKind, Script

_WORD_BREAK: Final = re.compile(r"\.(?=[A-Za-z])")
_FAULTS: Final = frozenset(get_args(FaultKind))
_Setting = tuple[str, Callable[[str], object]]


class BadNameError(ValueError):
    """The model name begins like a script, yet is none."""


def _flag(_value: str) -> bool:
    return True


def thinking_text(size_bytes: str) -> str:
    """A reasoning text of exactly so many bytes."""
    return ("[simulated] thinking about it. " * (int(size_bytes) // 31 + 1))[: int(size_bytes)]


_FAULT_SETTINGS: Final[Mapping[str, _Setting]] = MappingProxyType(
    {
        "after": ("after", int),
        "how": ("how", str),
        "code": ("code", int),
        "reason": ("reason", str),
        "count": ("count", int),
        "retry": ("retry_after", str),
        "size": ("bytes", int),
        "drip": ("pace_s", float),
        "wait": ("pace_s", float),
    }
)
_SCRIPT_SETTINGS: Final[Mapping[str, _Setting]] = MappingProxyType(
    {
        "chunks": ("chunks", int),
        "first": ("first_s", float),
        "pace": ("pace_s", float),
        "bytes": ("text_bytes", int),
        "think": ("reasoning", thinking_text),
        "calls": ("tools", int),
        "usage": ("usage_place", str),
        "finish": ("finish", str),
        "comments": ("comments", int),
        "crlf": ("crlf", _flag),
        "role": ("role_each", _flag),
        "slice": ("slice_bytes", int),
        "key": ("require_key", str),
    }
)
_KINDS: Final[Mapping[str, Mapping[str, object]]] = MappingProxyType(
    {"ok": {}, "tools": {"tools": 1}, "think": {"reasoning": thinking_text("120")}}
)


def script_in(model: str) -> Script | None:
    """The script that a model name carries, or None for an ordinary name.

    Raises: BadNameError when the name begins with `sim.` and does not follow the grammar.
    """
    name = model.rsplit("/", 1)[-1].split(":", 1)[0]
    if name == "sim":
        return Script()
    if not name.startswith("sim."):
        return None
    kind, *settings = _WORD_BREAK.split(name)[1:] or ["ok"]
    script: dict[str, Any] = dict(_KINDS.get(kind, {}))
    fault: dict[str, Any] = {"kind": kind} if kind in _FAULTS else {}
    if kind not in _KINDS and not fault:
        raise BadNameError(f"[simulated] {kind!r} is no kind of script")
    for word in settings:
        _set(word, script, fault)
    if fault:
        script["fault"] = fault
    try:
        return msgspec.convert(script, Script)
    except msgspec.ValidationError as error:
        raise BadNameError(f"[simulated] {error}") from error


def _set(word: str, script: dict[str, Any], fault: dict[str, Any]) -> None:
    key, _, value = word.partition("-")
    settings, target = (_FAULT_SETTINGS, fault) if key in _FAULT_SETTINGS else (_SCRIPT_SETTINGS, script)
    if key not in settings or (target is fault and not fault):
        raise BadNameError(f"[simulated] {word!r} is no setting here")
    member, read = settings[key]
    try:
        target[member] = read(value)
    except ValueError as error:
        raise BadNameError(f"[simulated] {word!r} has a bad value") from error
