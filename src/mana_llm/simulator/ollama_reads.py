"""Reading Ollama chat requests, and refusing what its Go decoder and its routes refuse.

Source: docs/sources.md (Ollama).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from mana_llm.simulator import models
from mana_llm.simulator.reply import RefusedError, whole
from mana_llm.simulator.script import Json
from mana_llm.simulator.texts import Asked, Tool

CONTEXT_CHARACTERS: Final = 4 * 4096
"""The context that /api/ps tells, at four characters to the token."""

_WHOLE: Final = (int,)
_NUMBER: Final = (int, float)
# The options whose type Go checks; unknown ones are only logged.
_OPTION_TYPES: Final = (
    ("num_ctx", _WHOLE),
    ("num_predict", _WHOLE),
    ("top_k", _WHOLE),
    ("seed", _WHOLE),
    ("temperature", _NUMBER),
    ("top_p", _NUMBER),
    ("presence_penalty", _NUMBER),
    ("frequency_penalty", _NUMBER),
    ("stop", (list,)),
)


def refuse(status: int, message: str) -> RefusedError:
    """An error answer to raise."""
    return RefusedError(whole(status, {"error": message}))


def required_model(body: Json) -> str:
    """The model's name. Raises: RefusedError when it is missing (400) or unknown (404)."""
    name = body.get("model") or body.get("name")
    if not isinstance(name, str):
        raise refuse(400, "model is required")
    if models.unknown(name):
        raise refuse(404, f'model "{name}" not found, try pulling it first')
    return name


def asked(body: Json) -> Asked:
    """The chat request in the simulator's words. Raises: RefusedError where Ollama refuses."""
    name = required_model(body)
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise _go_type("messages", "[]api.Message")
    for message in messages:
        _check_message(message)
    options = _options(body.get("options"))
    tools = _tools(name, body.get("tools") or [])
    texts = [message.get("content") or "" for message in messages]
    roles = [message.get("role") for message in messages]
    spoken = [text for text, role in zip(texts, roles, strict=True) if role in ("user", "tool")]
    ceiling = options.get("num_predict", -1)
    return Asked(
        model=name,
        said=spoken[-1] if spoken else "",
        # What does not fit the context is dropped without a word.
        prompt_characters=min(sum(map(len, texts)), CONTEXT_CHARACTERS),
        stream=_stream(body.get("stream")),
        tools=tools,
        answered=roles[-1] == "tool",
        thinks=_thinks(name, body.get("think")),
        ceiling_tokens=ceiling if ceiling > 0 else None,
        schema=_schema(body.get("format")),
    )


def _go_type(field: str, wanted: str) -> RefusedError:
    place = f"Go struct field ChatRequest.{field} of type {wanted}"
    return refuse(400, f"json: cannot unmarshal value into {place}")


def _stream(value: object) -> bool:
    if value is None:
        return True  # streaming is the default
    if not isinstance(value, bool):
        raise _go_type("stream", "bool")
    return value


def _check_message(message: object) -> None:
    if not isinstance(message, dict):
        raise _go_type("messages", "api.Message")
    if not isinstance(message.get("content") or "", str):
        raise _go_type("messages.content", "string")
    for call in message.get("tool_calls") or ():
        if not isinstance((call.get("function") or {}).get("arguments", {}), dict):
            raise _go_type("messages.tool_calls.function.arguments", "api.ToolCallFunctionArguments")
    for image in message.get("images") or ():
        try:
            base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise refuse(400, "illegal base64 data at input byte 4") from error


def _options(options: object) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise _go_type("options", "map[string]interface {}")
    for name, kinds in _OPTION_TYPES:
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            wanted = "integer" if kinds is _WHOLE else "array" if list in kinds else "number"
            raise refuse(400, f'option "{name}" must be of type {wanted}')
    return options


def _thinks(name: str, think: object) -> bool:
    if think not in (None, True, False, "low", "medium", "high", "max"):
        raise refuse(400, f"invalid think value: {think!r}")
    able = models.thinks(name)
    if think and not able:
        raise refuse(400, f'"{name}" does not support thinking')
    scripted = name.startswith("sim") and think is None
    # gpt-oss cannot be turned off.
    return able and not scripted and (think is not False or name.startswith("gpt-oss"))


def _tools(name: str, tools: list[Json]) -> tuple[Tool, ...]:
    local = next((one for one in models.LOCAL_MODELS if one.name == name), None)
    if tools and local is not None and "tools" not in local.capabilities:
        raise refuse(400, f"registry.ollama.ai/library/{name} does not support tools")
    functions = [tool.get("function") or {} for tool in tools]
    return tuple(Tool(str(one.get("name")), one.get("parameters") or {}) for one in functions)


def _schema(wanted: object) -> Json | None:
    if wanted in (None, ""):
        return None
    if wanted == "json":
        return {"type": "object", "properties": {"simulated": {"type": "boolean"}}}
    if not isinstance(wanted, dict):
        raise refuse(400, f'invalid format: {wanted!r}; expected "json" or a JSON schema')
    return wanted
