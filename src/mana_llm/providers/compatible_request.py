"""A client's chat request as an OpenAI-compatible server wants it: its own members, few of them changed."""

from typing import Any, Final

import msgspec

from mana_llm.providers.compatible_messages import MessageRules
from mana_llm.providers.compatible_quirks import Quirks
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import NULL, JSONDecodeError, decode_envelope, decode_json, encode_json

Fields = dict[str, Any]

_TUNED: Final = "ft:"
_OLD_CEILING: Final = "max_tokens"
_NEW_CEILING: Final = "max_completion_tokens"
_ASK_USAGE: Final = msgspec.Raw(b'{"include_usage":true}')


def chat_fields(
    request: ChatRequest, model: str, quirks: Quirks, rules: MessageRules
) -> tuple[Fields, tuple[str, ...]]:
    """The body's members, and the names of those that the server has no place for; `request` stays as it is."""
    fields: Fields = {**request.fields, "model": model}
    ignored: tuple[str, ...] = ()
    if quirks.renames or quirks.drops:
        fields, ignored = adapted(fields, quirks.renames, quirks.drops)
    if _OLD_CEILING in fields and quirks.new_ceiling and model.removeprefix(_TUNED).startswith(quirks.new_ceiling):
        # Where both are given the newer one wins, as everywhere.
        ceiling = fields.pop(_OLD_CEILING)
        fields.setdefault(_NEW_CEILING, ceiling)
    if request.stream and quirks.asks_usage:
        fields["stream_options"] = _with_usage(request)
    if quirks.tool_choices and "tool_choice" in fields:
        fields["tool_choice"] = _choice(fields["tool_choice"], quirks)
    messages = fields.get("messages")
    if messages is not None and rules.matters is not None and rules.matters(messages):
        fields["messages"], dropped = rules.applied(messages)
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
