"""The reasoning of answers with tool calls, remembered for clients that do not send it back.

Some servers refuse (400) a conversation in which an assistant's calls come back without their reasoning, an empty
one included. Most clients drop what is not OpenAI's. So the reasoning of turns with calls that passed here is kept
for a while; where it is forgotten the message goes as it came, and the server judges.

A turn is known again by all of it that a client can send back: its text, and of every call the id, the name and the
arguments. So whoever shows a turn has read the answer. An id alone would not do: some servers number their calls
anew in every conversation, and one caller's thoughts would be told to another. It is for servers with random ids
all the same, since a turn of nothing but common words can be said twice.
Source: DeepSeek's thinking mode guide; its recorded ids (`call_00_` and 24 random characters);
SillyTavern/SillyTavern#5545 for the empty text.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Any, Final

import msgspec

from mana_llm.providers.toolcalls import is_synthesised
from mana_llm.schema.chat import Function, Part, ToolCall
from mana_llm.schema.wire import NULL, JSONDecodeError, decode_json, decoder_of, encode_json

KEPT_MAX: Final = 10_000
KEPT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of all that is kept together, reasoning of 100 kB being nothing unusual."""
ONE_BYTES_MAX: Final = 1024 * 1024
_QUOTE: Final = b'"'


class _Turn(msgspec.Struct):
    tool_calls: list[ToolCall]
    content: str | list[Part] | None = None


_turn: Final = decoder_of(_Turn)


class Thoughts:
    """A bounded memory of reasoning, as JSON texts, by the turns (see `turn_of`) that it led to."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def keep(self, turn: bytes, thought: bytes) -> None:
        """Remember the reasoning that led to a turn, unless it is of an absurd size."""
        if len(thought) > ONE_BYTES_MAX:
            return
        self._forget(turn)
        self._kept[turn] = thought
        self._bytes += len(thought)
        while self._bytes > KEPT_BYTES_MAX or len(self._kept) > KEPT_MAX:
            self._forget(next(iter(self._kept)))

    def of(self, turn: bytes | None) -> msgspec.Raw | None:
        """The reasoning that led to the turn, which counts as used now; None if none is known."""
        if turn is None or turn not in self._kept:
            return None
        self._kept.move_to_end(turn)
        return msgspec.Raw(self._kept[turn])

    def _forget(self, turn: bytes) -> None:
        self._bytes -= len(self._kept.pop(turn, b""))


class _Said:
    """What one choice of a stream has said: texts as they are written, without their quotes."""

    def __init__(self) -> None:
        self.thought: list[bytes] = []
        self.content: list[bytes] = []
        self.calls: dict[int, tuple[dict[str, Any], list[bytes]]] = {}

    def turn(self) -> bytes | None:
        """What it can be known by."""
        calls = [{**call, "function": {**call["function"], "arguments": _joined(p)}} for call, p in self.calls.values()]
        return turn_of({"content": _joined(self.content), "tool_calls": calls})


class ThoughtStream:
    """Collects one streamed answer's turns, by choice, for `thoughts`."""

    def __init__(self, thoughts: Thoughts) -> None:
        self._thoughts = thoughts
        self._said: dict[int, _Said] = {}
        self._bytes = 0

    def saw(self, choice: int, delta: dict[str, Any]) -> None:
        """Take note of a delta that has been tidied."""
        if self._bytes > ONE_BYTES_MAX:
            return
        said = self._said.setdefault(choice, _Said())
        self._add(said.thought, delta.get("reasoning_content", NULL))
        self._add(said.content, delta.get("content", NULL))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") or {}
            if call["index"] not in said.calls:
                said.calls[call["index"]] = {"id": call.get("id"), "function": {"name": function.get("name")}}, []
            self._add(said.calls[call["index"]][1], function.get("arguments", NULL))

    def finished(self, choice: int) -> None:
        """Remember what the choice thought, if it made calls."""
        said = self._said.get(choice)
        if said and said.thought and said.calls and self._bytes <= ONE_BYTES_MAX and (turn := said.turn()):
            self._thoughts.keep(turn, bytes(_joined(said.thought)))

    def _add(self, pieces: list[bytes], value: Any) -> None:
        written = _written(value)[1:-1]
        self._bytes += len(written)
        pieces += [written] if written else []


def kept_of(message: dict[str, Any], thoughts: Thoughts) -> None:
    """Remember what a whole message thought, if it made calls."""
    thought = _written(message.get("reasoning_content", NULL))
    if thought not in (b"", b'""') and (turn := turn_of(message)):
        thoughts.keep(turn, thought)


def turn_of(message: dict[str, Any]) -> bytes | None:
    """What an assistant's message with calls is known by, however a client writes it down; None for any other.

    None too if no call has an id of the server's own: nothing tells such a turn from another conversation's.
    """
    try:
        turn = _turn(encode_json({name: message[name] for name in ("content", "tool_calls") if name in message}))
    except JSONDecodeError:
        return None
    if all(not call.id or is_synthesised(call.id) for call in turn.tool_calls):
        return None
    content = turn.content or ""
    text = content if isinstance(content, str) else "".join(part.text or "" for part in content)
    functions = [call.function or Function() for call in turn.tool_calls]
    ids = [call.id for call in turn.tool_calls]
    calls = [(function.name, _arguments(function.arguments or "")) for function in functions]
    return sha256(encode_json((text.strip(), ids, calls))).digest()


def _arguments(text: str) -> Any:
    """Arguments without the spaces and the order of their text, which some clients change."""
    try:
        return msgspec.Raw(msgspec.json.encode(decode_json(text.encode()), order="sorted"))
    except (JSONDecodeError, UnicodeEncodeError, RecursionError):
        return text


def _written(value: Any) -> bytes:
    """A JSON text as it is written, quotes and all; b"" if it is none."""
    written = bytes(value) if isinstance(value, msgspec.Raw) else encode_json(value)
    return written if written[:1] == _QUOTE else b""


def _joined(pieces: list[bytes]) -> msgspec.Raw:
    """Texts put together as they are written: an escape never spans two."""
    return msgspec.Raw(b'"%b"' % b"".join(pieces))
