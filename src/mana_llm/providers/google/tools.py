"""Turns OpenAI's tools and choice of tools into Gemini's. Source: docs/sources.md (Gemini).

`parallel_tool_calls: false` and a function's `strict` have no equivalent and are named among the ignored fields.
"""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import Fields, Typed, cannot, read
from mana_llm.providers.google.generation import is_before
from mana_llm.providers.google.schema_subset import subset_of
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import JSONDecodeError, decode_json

Json = dict[str, Any]

_MODES: Final = {"none": "NONE", "auto": "AUTO", "required": "ANY"}
_ALLOWED_MODES: Final = {"auto": "VALIDATED", "required": "ANY"}
# A schema with no member but these says nothing of arguments, unless `properties` does.
_SILENT: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "$schema", "title", "description"},
)


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _Tool(msgspec.Struct):
    function: _Function


class _Named(msgspec.Struct):
    name: str


class _NamedTool(msgspec.Struct):
    function: _Named


class _Allowed(msgspec.Struct):
    mode: str
    tools: list[_NamedTool]


class _Choice(msgspec.Struct):
    type: str
    function: _Named | None = None
    allowed_tools: _Allowed | None = None


def tools_config(fields: Fields, model: str) -> Json:
    """The members `tools` and `toolConfig`; empty if there are no tools.

    Raises:
        RequestError: if tools or choice cannot be read, or do not fit together.
        ProviderCapabilityError: for tools that are no functions, and the old form `functions`.
    """
    if read(fields, "functions", list[msgspec.Raw]):
        raise cannot("functions", "functions in their old form instead of tools")
    declared = _declarations(fields, model)
    calling = _calling(fields, [declaration["name"] for declaration in declared])
    if not declared:
        return {}
    body: Json = {"tools": [{"functionDeclarations": declared}]}
    if calling:
        body["toolConfig"] = {"functionCallingConfig": calling}
    return body


def calls_none(config: Json) -> bool:
    """Whether a `tools_config` forbids every call."""
    calling: Json = config.get("toolConfig", {}).get("functionCallingConfig", {})
    return calling.get("mode") == _MODES["none"]


def not_carried(fields: Fields) -> tuple[str, ...]:
    """What the tools ask for that has no place here; the tools must be functions that can be read."""
    tools: list[_Tool] = read(fields, "tools", list[_Tool]) or []
    return ("tools.function.strict",) if any(tool.function.strict for tool in tools) else ()


def _declarations(fields: Fields, model: str) -> list[Json]:
    tools = read(fields, "tools", list[msgspec.Raw]) or ()
    return [_declaration(raw, f"tools[{index}]", model) for index, raw in enumerate(tools)]


def _declaration(raw: msgspec.Raw, place: str, model: str) -> Json:
    kind: Typed = _decode(raw, Typed, place)
    if kind.type != "function":
        raise cannot(place, f"tools of the type '{kind.type[:40]}'")
    function: _Function = _decode(raw, _Tool, place).function
    declaration: Json = {"name": function.name}
    if function.description:
        declaration["description"] = function.description
    schema = _schema_of(function, f"{place}.function.parameters")
    if schema is not None and is_before(model, (2, 5)):
        declaration["parameters"] = subset_of(decode_json(schema))
    elif schema is not None:
        declaration["parametersJsonSchema"] = schema
    return declaration


def _schema_of(function: _Function, place: str) -> msgspec.Raw | None:
    """The schema as the client wrote it; None where it says that there are no arguments."""
    if not function.parameters:
        return None
    schema = _decode(function.parameters, dict[str, msgspec.Raw] | None, place)
    if schema is None:
        return None
    # What a schema allows beyond its properties is an argument, too; a plain true or false is not.
    open_ended = bytes(schema.get("additionalProperties", b"false"))[:1] == b"{"
    properties = _decode(schema.get("properties", msgspec.Raw(b"{}")), dict[str, msgspec.Raw] | None, place)
    if schema.keys() <= _SILENT and not properties and not open_ended:
        return None
    return function.parameters


def _calling(fields: Fields, names: list[str]) -> Json | None:
    if not names:
        for name in ("tool_choice", "function_call"):
            if read(fields, name, Any) not in (None, "none", "auto"):
                raise RequestError(f"'{name}' needs tools to choose from.", param=name)
        return None
    choice: _Choice | str | None = read(fields, "tool_choice", _Choice | str)
    if choice is None:
        return None
    if isinstance(choice, str):
        return {"mode": _mode(choice, _MODES, "tool_choice")}
    if choice.type == "function" and choice.function is not None:
        return _limited("ANY", [choice.function.name], names)
    if choice.type == "allowed_tools" and choice.allowed_tools is not None:
        allowed = choice.allowed_tools
        mode = _mode(allowed.mode, _ALLOWED_MODES, "tool_choice.allowed_tools.mode")
        return _limited(mode, [tool.function.name for tool in allowed.tools], names)
    if choice.type in ("function", "allowed_tools"):
        raise RequestError(f"'tool_choice.{choice.type}' is missing.", param=f"tool_choice.{choice.type}")
    raise cannot("tool_choice", f"a choice of the type '{choice.type[:40]}'")


def _mode(word: str, modes: dict[str, str], place: str) -> str:
    if word not in modes:
        raise RequestError(f"'{place}' must be one of {', '.join(modes)}.", param=place)
    return modes[word]


def _limited(mode: str, chosen: list[str], names: list[str]) -> Json:
    if not chosen or not set(chosen) <= set(names):
        raise RequestError("'tool_choice' names a function that is not among the tools.", param="tool_choice")
    return {"mode": mode, "allowedFunctionNames": chosen}


def _decode(raw: msgspec.Raw, shape: object, place: str) -> Any:
    try:
        return decode_json(raw, shape)
    except JSONDecodeError as error:
        raise RequestError(f"'{place}' cannot be read: {error}.", param=place) from error
