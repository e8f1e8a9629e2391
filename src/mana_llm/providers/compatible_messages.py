"""The members of a request's messages that an OpenAI-compatible server takes otherwise, or not at all.

Messages stay bytes unless a name that matters may be in them; and they stay as they came if nothing had to change.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from mana_llm.providers.compatible_quirks import Quirks
from mana_llm.providers.compatible_thoughts import Thoughts, call_ids
from mana_llm.schema.wire import NULL, decode_envelopes

Members = dict[str, Any]

SPELLINGS: Final = ("reasoning_content", "reasoning")
_EXTRA: Final = "extra_content"
_CALLS: Final = "tool_calls"
_OBJECTS: Final = b"["
_EMPTY_TEXT: Final = msgspec.Raw(b'""')


class MessageRules:
    """One server's rules for messages; made once. `thoughts` remembers what it said, where it wants that back.

    `matters` is a cheap look whether a name that matters may be in the bytes of the messages: what is found in a text
    costs a decode and nothing else. None if no name matters.
    """

    def __init__(self, quirks: Quirks, thoughts: Thoughts | None) -> None:
        self._reasoning = quirks.reasoning
        self._drops = quirks.message_drops if quirks.extra_content else (*quirks.message_drops, _EXTRA)
        self._cleans_calls = not quirks.extra_content
        self._thoughts = thoughts
        self.matters = _finder(quirks, self._drops)

    def applied(self, raw: msgspec.Raw) -> tuple[Any, tuple[str, ...]]:
        """The messages as the server takes them, and the names of what was dropped; `raw` if nothing changes."""
        try:
            messages = decode_envelopes(raw)
            dropped: set[str] = set()
            changed = [self._changed(message, dropped) for message in messages]
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            # Not a list of objects: the server's to judge.
            return raw, ()
        return (messages, tuple(sorted(dropped))) if any(changed) else (raw, ())

    def _changed(self, message: Members, dropped: set[str]) -> bool:
        """Put one message right; True if it was not."""
        size = len(message)
        for name in self._drops:
            if message.pop(name, NULL) != NULL:
                dropped.add(f"messages.{name}")
        changed = len(message) != size
        calls = message.get(_CALLS, NULL)
        if calls != NULL and bytes(calls)[:1] == _OBJECTS:
            changed = (self._cleans_calls and _cleaned(message, dropped)) or changed
            changed = (self._thoughts is not None and _recalled(message, calls, self._thoughts)) or changed
        return self._respelt(message, dropped) or changed

    def _respelt(self, message: Members, dropped: set[str]) -> bool:
        """Bring the reasoning under the name that the server takes; True if it was not there."""
        taken = self._reasoning
        if taken == "any" or not any(name in message for name in SPELLINGS):
            return False
        given = {name: message.pop(name) for name in SPELLINGS if name in message}
        said = {name: value for name, value in given.items() if value != NULL}
        if taken == "refused":
            dropped.update(f"messages.{name}" for name in said)
            return True
        if said:
            message[taken] = said.get(taken) or next(iter(said.values()))
        return given.keys() != {taken} or not said


def _finder(quirks: Quirks, drops: tuple[str, ...]) -> Callable[[memoryview], Any] | None:
    """What finds a name that matters in the bytes of the messages; None if no name does."""
    names = [*drops]
    names += SPELLINGS if quirks.reasoning != "any" else ()
    names += [_CALLS] if quirks.wants_thoughts else []
    return re.compile(b'"(?:%b)"\\s*:' % "|".join(names).encode()).search if names else None


def _cleaned(message: Members, dropped: set[str]) -> bool:
    """Take `extra_content` off the message's calls; True if there was any."""
    calls = decode_envelopes(message[_CALLS])
    found = [call for call in calls if _EXTRA in call]
    for call in found:
        if call.pop(_EXTRA) != NULL:
            dropped.add(f"messages.{_CALLS}.{_EXTRA}")
    if found:
        message[_CALLS] = calls
    return bool(found)


def _recalled(message: Members, calls: msgspec.Raw, thoughts: Thoughts) -> bool:
    """Give a message with calls the reasoning that it came with, if the client lost it and it is remembered."""
    if any(message.get(name, NULL) not in (NULL, _EMPTY_TEXT) for name in SPELLINGS):
        return False
    thought = thoughts.of(call_ids(decode_envelopes(calls)))
    if thought is not None:
        message[SPELLINGS[0]] = thought
        message.pop(SPELLINGS[1], None)
    return thought is not None
