"""The reasoning of answers with tool calls, remembered for clients that do not send it back.

Some servers refuse (400) a conversation in which an assistant's calls come back without their reasoning, an empty
one included. Most clients drop what is not OpenAI's. So the reasoning of calls that passed here is kept for a while,
by the calls' ids; where it is forgotten the message goes as it came, and the server judges.

Only for servers whose ids are random and long: an id that two conversations share would tell one the thoughts of
the other. Source: DeepSeek's thinking mode guide; its recorded ids (`call_00_` and 24 random characters);
SillyTavern/SillyTavern#5545 for the empty text.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from mana_llm.providers.toolcalls import is_synthesised
from mana_llm.schema.wire import NULL, JSONDecodeError, decoder_of

KEPT_MAX: Final = 10_000
KEPT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of all that is kept together, reasoning of 100 kB being nothing unusual."""
ONE_BYTES_MAX: Final = 1024 * 1024
_QUOTE: Final = b'"'

_text: Final = decoder_of(str)


class Thoughts:
    """A bounded memory of reasoning, as JSON texts, by the ids of the calls that it led to."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def keep(self, ids: Iterable[str], thought: bytes) -> None:
        """Remember the reasoning that led to these calls, unless it is of an absurd size."""
        if len(thought) > ONE_BYTES_MAX:
            return
        for call_id in ids:
            # Ours are the same for the same answer's id: nothing to tell conversations apart by.
            if not is_synthesised(call_id):
                self._forget(call_id)
                self._kept[call_id] = thought
                self._bytes += len(thought)
        while self._bytes > KEPT_BYTES_MAX or len(self._kept) > KEPT_MAX:
            self._forget(next(iter(self._kept)))

    def of(self, ids: Iterable[str]) -> msgspec.Raw | None:
        """The reasoning that led to any of these calls, which counts as used now; None if none is known."""
        for call_id in ids:
            if call_id in self._kept:
                self._kept.move_to_end(call_id)
                return msgspec.Raw(self._kept[call_id])
        return None

    def _forget(self, call_id: str) -> None:
        self._bytes -= len(self._kept.pop(call_id, b""))


class ThoughtStream:
    """Collects one streamed answer's reasoning and calls, by choice, for `thoughts`."""

    def __init__(self, thoughts: Thoughts) -> None:
        self._thoughts = thoughts
        self._said: dict[int, list[bytes]] = {}
        self._ids: dict[int, list[str]] = {}
        self._bytes = 0

    def saw(self, choice: int, delta: dict[str, Any]) -> None:
        """Take note of a delta that has been tidied."""
        said = _written(delta)
        if said and self._bytes <= ONE_BYTES_MAX:
            self._bytes += len(said)
            # Texts put together as they are written: an escape never spans two.
            self._said.setdefault(choice, []).append(said[1:-1])
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            self._ids.setdefault(choice, []).extend(call_ids(calls))

    def finished(self, choice: int) -> None:
        """Remember what the choice thought, if it made calls."""
        if choice in self._ids and choice in self._said and self._bytes <= ONE_BYTES_MAX:
            self._thoughts.keep(self._ids[choice], b'"%b"' % b"".join(self._said[choice]))


def kept_of(message: dict[str, Any], thoughts: Thoughts) -> None:
    """Remember what a whole message thought, if it made calls."""
    calls, said = message.get("tool_calls"), _written(message)
    if isinstance(calls, list) and said:
        thoughts.keep(call_ids(calls), said)


def _written(members: dict[str, Any]) -> bytes:
    """The reasoning as it is written, b"" if there is none."""
    said = members.get("reasoning_content")
    written = bytes(said) if isinstance(said, msgspec.Raw) else b""
    return written if written[:1] == _QUOTE and written != b'""' else b""


def call_ids(calls: Sequence[dict[str, Any]]) -> list[str]:
    """The calls' ids, as far as they have any."""
    found = []
    for call in calls:
        value = call.get("id", NULL)
        try:
            call_id = value if isinstance(value, str) else _text(value)
        except JSONDecodeError:
            continue
        if call_id:
            found.append(call_id)
    return found
