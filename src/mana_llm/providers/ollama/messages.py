"""Writes OpenAI's messages for Ollama. Source: docs/sources.md (Ollama).

There, content is one string and images stand beside it; arguments of calls are objects; a result names the
function, not the call. Ids go along all the same: newer servers tell two calls of one function apart by them.
"""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import cannot
from mana_llm.providers.failures.messages import messages_of, texts_of, unknown_role
from mana_llm.providers.ollama.images import audio_of, image_of
from mana_llm.schema.chat import ChatRequest, Function, Message, ToolCall
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import JSONDecodeError, decode_json

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_ID_CHARS_SHOWN: Final = 64


def conversation_of(request: ChatRequest) -> list[dict[str, Any]]:
    """The messages, in their order.

    Raises:
        RequestError: if one cannot be read; `param` names the place.
        ProviderCapabilityError: if one holds what Ollama has no place for.
    """
    called: dict[str, str] = {}
    written = []
    for index, message in enumerate(messages_of(request)):
        place = f"messages[{index}]"
        if message.role not in _ROLES:
            raise unknown_role(message, place)
        if message.role in ("tool", "function"):
            written.append(_result(message, place, called))
        elif message.role == "assistant":
            written.append(_turn(message, place, called))
        elif message.role == "user":
            written.append(_said(message, place, request))
        else:
            written.append({"role": "system", "content": _text(message, place)})
    return written


def _text(message: Message, place: str) -> str:
    # The parts of ours are lines of the one string, as they would be in a prompt.
    return "\n".join(texts_of(message, place))


def _said(message: Message, place: str, request: ChatRequest) -> dict[str, Any]:
    if not isinstance(message.content, list):
        return {"role": "user", "content": _text(message, place)}
    texts: list[str] = []
    images: list[msgspec.Raw] = []
    for index, part in enumerate(message.content):
        at = f"{place}.content[{index}]"
        if part.type == "image_url":
            images.append(image_of(part, at, request))
        elif part.type == "input_audio":
            images.append(audio_of(part, at))
        elif part.type == "text" and part.text is not None:
            texts.append(part.text)
        elif part.type == "text":
            raise RequestError(f"'{at}.text' is missing.", param=f"{at}.text")
        else:
            raise cannot(at, f"content of the type '{part.type[:40]}'")
    written: dict[str, Any] = {"role": "user", "content": "\n".join(texts)}
    return {**written, "images": images} if images else written


def _turn(message: Message, place: str, called: dict[str, str]) -> dict[str, Any]:
    """An assistant's message; the names of the functions it called are noted in `called`, by the calls' ids."""
    # Of an answer that was refused, the refusal is what was said.
    said = message.refusal if message.content is None and message.refusal else _text(message, place)
    written: dict[str, Any] = {"role": "assistant", "content": said}
    if message.thoughts:
        written["thinking"] = message.thoughts
    calls = [_call(call, f"{place}.tool_calls[{at}]", called) for at, call in enumerate(message.tool_calls or ())]
    if message.function_call is not None:
        calls.append({"function": _function(message.function_call, f"{place}.function_call")})
    if calls:
        written["tool_calls"] = calls
    return written


def _call(call: ToolCall, place: str, called: dict[str, str]) -> dict[str, Any]:
    if call.type != "function":
        raise cannot(place, f"calls of the type '{call.type[:40]}'")
    if call.function is None:
        raise RequestError(f"'{place}.function' is missing.", param=f"{place}.function")
    function = _function(call.function, f"{place}.function")
    if not call.id:
        return {"function": function}
    called[call.id] = function["name"]
    return {"id": call.id, "function": function}


def _function(function: Function, place: str) -> dict[str, Any]:
    if not function.name:
        raise RequestError(f"'{place}.name' is missing.", param=f"{place}.name")
    # Of a call without arguments, some clients keep an empty string.
    text = (function.arguments or "").strip() or "{}"
    try:
        decode_json(text.encode(), dict[str, Any])
    except (JSONDecodeError, UnicodeEncodeError) as error:
        at = f"{place}.arguments"
        raise RequestError(f"'{at}' must be a JSON object in a string.", param=at) from error
    return {"name": function.name, "arguments": msgspec.Raw(text.encode())}


def _result(message: Message, place: str, called: dict[str, str]) -> dict[str, Any]:
    name = called.get(message.tool_call_id or "") or message.name
    if not name:
        raise _unknown_call(message, place)
    written: dict[str, Any] = {"role": "tool", "content": _text(message, place), "tool_name": name}
    return {**written, "tool_call_id": message.tool_call_id} if message.tool_call_id else written


def _unknown_call(message: Message, place: str) -> RequestError:
    if message.role == "function":
        return RequestError(f"'{place}.name' is missing.", param=f"{place}.name")
    at = f"{place}.tool_call_id"
    if not message.tool_call_id:
        return RequestError(f"'{at}' is missing.", param=at)
    shown = message.tool_call_id[:_ID_CHARS_SHOWN]
    return RequestError(f"'{at}' is {shown!a}, which no tool call before it has.", param=at)
