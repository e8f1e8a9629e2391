"""What the simulated models say: always marked, always the same for the same request.

A dialect reads a request into `Asked`; `compose` turns that and the script into an `Answer`; the dialect
writes the answer in its own form. Tokens are counted as one per four characters, rounded up.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from mana_llm.simulator.script import Json, Script, ToolCall, Usage

MARK: Final = "[simulated]"
ECHO_CHARACTERS_MAX: Final = 80
THOUGHT: Final = f"{MARK} thinking about it."
_WORDS: Final = re.compile(r"\s*\S+")
# A count that no answer has; numbers near it become the letters NaN in the encoded answer.
NAN_COUNT: Final = 987600000000


class Tool(msgspec.Struct, frozen=True):
    """A function that the request offers."""

    name: str
    parameters: Json


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What matters of a chat request, whatever its dialect."""

    model: str
    said: str
    prompt_characters: int
    stream: bool
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    answered: bool = False  # the last message is a tool's result, so the model now speaks
    thinks: bool = False
    ceiling_tokens: int | None = None
    schema: Json | None = None
    count: int = 1


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model answers, in pieces; `nothing` stands for null where the answer should be."""

    asked: Asked
    reasoning: tuple[str, ...]
    pieces: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    finish: str
    usage: Usage
    nothing: bool = False


def tokens(characters: int) -> int:
    """The simulated number of tokens."""
    return math.ceil(characters / 4)


def compose(asked: Asked, script: Script) -> Answer:
    """The answer of a simulated model, faults in its content included."""
    calls = _calls(asked, script)
    text = "" if calls and script.text is None else _text(asked, script)
    finish = script.finish or ("tool_calls" if calls else "stop")
    if asked.ceiling_tokens is not None and tokens(len(text)) > asked.ceiling_tokens >= 0:
        text, finish = text[: asked.ceiling_tokens * 4], "length"
    thought = script.reasoning if script.reasoning is not None else THOUGHT if asked.thinks else ""
    pieces = _pieces(text, script.chunks)
    answer = Answer(
        asked=asked,
        reasoning=_pieces(thought, 0),
        pieces=pieces,
        calls=calls,
        finish=finish,
        usage=script.usage or _usage(asked, text, thought, calls),
    )
    return _with_fault(answer, script)


def _with_fault(answer: Answer, script: Script) -> Answer:
    replace = msgspec.structs.replace
    fault = script.fault
    if fault is None:
        return answer
    if fault.kind == "empty":
        return replace(answer, pieces=(), reasoning=(), calls=(), finish="stop")
    if fault.kind == "length":
        return replace(answer, pieces=(), calls=(), finish="length")
    if fault.kind == "filter":
        kept = answer.pieces[: fault.after]
        return replace(answer, pieces=kept, reasoning=(), calls=(), finish="content_filter")
    if fault.kind == "null":
        return replace(answer, nothing=True)
    if fault.kind == "usage":
        bad = NAN_COUNT if fault.how == "nan" else -5
        return replace(answer, usage=Usage(prompt=answer.usage.prompt, completion=bad))
    return answer


def _text(asked: Asked, script: Script) -> str:
    if script.text is not None:
        return script.text
    if asked.schema is not None and not script.text_bytes:
        return msgspec.json.encode(instance(asked.schema)).decode()
    said = " ".join(asked.said[:ECHO_CHARACTERS_MAX].split())
    text = f"{MARK} {asked.model} heard: {said}"
    wanted = max(script.text_bytes, script.chunks)
    missing = wanted - len(text.encode())
    if missing > 0:
        return text + (" and so on" * (missing // 10 + 1))[:missing]
    return text.encode()[: script.text_bytes].decode(errors="ignore") if script.text_bytes else text


def _pieces(text: str, chunks: int) -> tuple[str, ...]:
    if chunks <= 0:
        words = _WORDS.findall(text)
        rest = text[sum(map(len, words)) :]
        return (*words, rest) if rest else tuple(words)
    cuts = [len(text) * part // chunks for part in range(chunks + 1)]
    return tuple(text[start:end] for start, end in pairwise(cuts) if end > start)


def _calls(asked: Asked, script: Script) -> tuple[ToolCall, ...]:
    if script.tool_calls:
        return script.tool_calls
    count = script.tools or int(asked.must_call)
    if not asked.tools or (asked.answered and not asked.must_call):
        return ()
    chosen = [asked.tools[index % len(asked.tools)] for index in range(count)]
    return tuple(ToolCall(tool.name, _arguments(tool)) for tool in chosen)


def _arguments(tool: Tool) -> Json:
    made = instance(tool.parameters)
    return made if isinstance(made, dict) else {}


def _usage(asked: Asked, text: str, thought: str, calls: Sequence[ToolCall]) -> Usage:
    called = sum(len(msgspec.json.encode(call)) for call in calls)
    reasoning = tokens(len(thought))
    completion = tokens(len(text) + called) + reasoning
    return Usage(prompt=tokens(asked.prompt_characters), completion=completion, reasoning=reasoning)


def instance(schema: object, depth: int = 0) -> object:
    """A small value that fits a JSON Schema of the ordinary kind (no references are followed)."""
    if not isinstance(schema, dict) or depth > 16:
        return "simulated"
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema or not schema else "string")
    kind = str(next((one for one in kind if one != "null"), "null") if isinstance(kind, list) else kind).lower()
    if kind == "object":
        return {name: instance(part, depth + 1) for name, part in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [instance(schema.get("items"), depth + 1)]
    plain: Json = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
    return plain.get(kind, "simulated")


def vector(text: str, size: int) -> list[float]:
    """A unit vector made from the text alone, so that equal texts have equal vectors."""
    raw = b"".join(hashlib.blake2b(f"{part}:{text}".encode()).digest() for part in range(size // 16 + 1))
    values = [number / 2**31 for number in struct.unpack(f"<{size}i", raw[: size * 4])]
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]
