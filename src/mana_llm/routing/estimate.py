"""What a stream used that was cut before its provider said so: a guess from what the client had already been given.

Nothing is tokenized: a token is taken for four characters, which costs 0.2 µs per chunk (measured) and may be wrong
by half. A cut answer is paid for all the same, and counting it as nothing would be wrong by all of it.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mana_llm.schema.chat import ChatChunk, ChatRequest
from mana_llm.schema.usage import Usage, usage_of
from mana_llm.schema.wire import NULL, JSONDecodeError, decode_text, encode_json

CHARS_PER_TOKEN: Final = 4
DECODED_BYTES_MAX: Final = 256 * 1024
"""Of messages that are looked into: a larger prompt is judged by its size, so that nothing waits for a count."""
_SPOKEN: Final = frozenset(("content", "reasoning", "reasoning_content", "refusal", "tool_calls"))


def estimated_usage(request: ChatRequest, relayed_chars: int) -> Usage:
    """The usage of an answer of which so many characters were relayed. Media in the prompt count as nothing."""
    return usage_of(_tokens(_prompt_chars(request)), _tokens(relayed_chars))


def chars_in(chunks: Sequence[ChatChunk]) -> int:
    """Characters of text, reasoning, refusal and calls in `chunks`, of all choices; calls as they are written."""
    chars = 0
    for chunk in chunks:
        if chunk.has_content:
            for choice in chunk.choices:
                delta = choice["delta"]
                # Nearly every chunk is one text, which the general way counts in 0.27 µs instead of 0.21.
                text = delta.get("content") if len(delta) == 1 else None
                chars += _text_chars(text) if type(text) is msgspec.Raw else _delta_chars(delta)
    return chars


def _delta_chars(delta: dict[str, Any]) -> int:
    chars = 0
    for name, value in delta.items():
        if name in _SPOKEN:
            if isinstance(value, msgspec.Raw):
                chars += _text_chars(value)
            elif value:
                chars += len(value if isinstance(value, str) else encode_json(value))
    return chars


def _text_chars(raw: msgspec.Raw) -> int:
    try:
        return len(decode_text(raw))
    except msgspec.MsgspecError:
        # A call, or a list of parts, counts as it is written; null is nothing.
        return 0 if raw == NULL else len(bytes(raw))


def _prompt_chars(request: ChatRequest) -> int:
    raw = bytes(request.fields.get("messages", b""))
    if len(raw) > DECODED_BYTES_MAX:
        return 0 if b'"data:' in raw or b'"input_audio"' in raw else len(raw)
    try:
        messages = request.messages()
    except (JSONDecodeError, KeyError):
        return len(raw)
    chars = 0
    for message in messages:
        content = message.content or ""
        chars += len(content) if isinstance(content, str) else sum(len(part.text or "") for part in content)
    return chars


def _tokens(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)
