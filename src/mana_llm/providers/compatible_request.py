"""A client's chat request as an OpenAI-compatible server wants it: its own members, few of them changed."""

import re
from typing import Any, Final

import msgspec

from mana_llm.providers.compatible_quirks import Quirks, Reasoning
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import NULL, JSONDecodeError, decode_envelope, decode_envelopes, decode_json, encode_json

Fields = dict[str, Any]

_ASK_USAGE: Final = msgspec.Raw(b'{"include_usage":true}')
_SPELLINGS: Final = ("reasoning_content", "reasoning")
# A cheap look whether any message may carry reasoning; what is found in a text costs a decode and nothing else.
_MAY_REASON: Final = re.compile(rb'"reasoning(?:_content)?"\s*:').search


def chat_fields(request: ChatRequest, model: str, quirks: Quirks) -> tuple[Fields, tuple[str, ...]]:
    """The body's members, and the names of those that the server has no place for; `request` stays as it is."""
    fields: Fields = {**request.fields, "model": model}
    ignored: tuple[str, ...] = ()
    if quirks.renames or quirks.drops:
        fields, ignored = adapted(fields, quirks.renames, quirks.drops)
    if request.stream and quirks.asks_usage:
        fields["stream_options"] = _with_usage(request)
    if quirks.tool_choices and "tool_choice" in fields:
        fields["tool_choice"] = _choice(fields["tool_choice"], quirks)
    messages = fields.get("messages")
    if quirks.reasoning != "any" and messages is not None and _MAY_REASON(memoryview(messages)):
        fields["messages"], dropped = _messages(messages, quirks.reasoning)
        ignored += dropped
    return fields, ignored


def adapted(fields: Fields, renames: Any, drops: tuple[str, ...]) -> tuple[Fields, tuple[str, ...]]:
    """`fields` with some renamed, a null one left out, and some dropped; the names of the dropped ones."""
    for ours, theirs in renames.items():
        value = fields.pop(ours, NULL)
        if value != NULL:
            fields[theirs] = value
    return fields, tuple(name for name in drops if fields.pop(name, NULL) != NULL)


def _with_usage(request: ChatRequest) -> msgspec.Raw:
    raw = request.fields.get("stream_options", NULL)
    if raw == NULL:
        return _ASK_USAGE
    options = decode_envelope(raw)
    options["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(encode_json(options))


def _choice(raw: msgspec.Raw, quirks: Quirks) -> Any:
    try:
        word = decode_json(raw, str)
    except JSONDecodeError:
        # A named function, or something that the server will judge.
        return raw
    return quirks.tool_choices.get(word, raw)


def _messages(raw: msgspec.Raw, taken: Reasoning) -> tuple[Any, tuple[str, ...]]:
    """The messages with their reasoning under the name that the server takes; what was dropped, named."""
    try:
        messages = decode_envelopes(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        # Not a list of objects: the server's to judge.
        return raw, ()
    dropped: set[str] = set()
    for message in messages:
        given = {name: message.pop(name) for name in _SPELLINGS if message.get(name, NULL) != NULL}
        if taken == "refused":
            dropped.update(f"messages[].{name}" for name in given)
            for name in _SPELLINGS:
                message.pop(name, None)
        elif given:
            message[taken] = given.get(taken) or next(iter(given.values()))
    return messages, tuple(sorted(dropped))
