"""Writes OpenAI's tools and the choice among them for Ollama, which has tools and no choice.

Source: docs/sources.md (Ollama).

    none                     the tools are left out: the model cannot call what it does not see
    auto, or nothing         all tools
    allowed_tools            the allowed ones
    one function by name     that one
    required                 all tools

The last two, and `allowed_tools` of the mode `required`, say that the model must call, and nothing can make it:
the model may answer in words. They narrow what can be narrowed, and `tool_choice` is named as ignored. So does
Ollama's own /v1, though it does not say so; refusing would shut out the clients that always ask so.
"""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import Fields, cannot, read
from mana_llm.providers.ollama.schemas import inlined
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import NULL


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None


class _Named(msgspec.Struct):
    name: str


class _Listed(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None


class _Allowed(msgspec.Struct):
    mode: str = "auto"
    tools: list[_Listed] = []


class _Choice(msgspec.Struct):
    type: str
    function: _Named | None = None
    allowed_tools: _Allowed | None = None


class Chosen(msgspec.Struct, frozen=True):
    """What a choice comes to: the names of the tools to offer (None: all), and whether one must be called."""

    names: tuple[str, ...] | None
    must: bool


_FIELDS: Final = frozenset({"tools", "tool_choice", "functions", "function_call"})
_ALL: Final = Chosen(None, must=False)
_WORDS: Final = {"auto": _ALL, "required": Chosen(None, must=True), "none": Chosen((), must=False)}


def tools_of(fields: Fields) -> list[dict[str, Any]]:
    """The tools to offer, in their order; none if there are none or none may be called.

    Raises:
        RequestError: if the tools or the choice among them cannot be read.
        ProviderCapabilityError: for tools that are no functions, and for the old `functions`.
    """
    if _FIELDS.isdisjoint(fields):
        return []
    _refuse_old(fields)
    tools = read(fields, "tools", list[_Tool]) or []
    written = [_written(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    chosen = _chosen(fields)
    if not written:
        if chosen.must or chosen.names:
            raise RequestError("'tool_choice' needs tools to choose from.", param="tool_choice")
        return []
    return _restricted(written, chosen.names)


def offers_tools(fields: Fields) -> bool:
    """Whether the model is asked to call tools at all. Raises as `tools_of`, where only the choice is read."""
    return "tools" in fields and bool(read(fields, "tools", list[msgspec.Raw])) and _chosen(fields).names != ()


def not_carried(fields: Fields) -> list[str]:
    """The parts of the tools' fields that have no place here; the fields must be readable."""
    if not offers_tools(fields):
        return []
    names = ["tool_choice"] if _chosen(fields).must else []
    if read(fields, "parallel_tool_calls", bool) is False:
        names.append("parallel_tool_calls")
    if any(tool.function and tool.function.strict for tool in read(fields, "tools", list[_Tool])):
        names.append("tools.function.strict")
    return names


def _refuse_old(fields: Fields) -> None:
    for name, instead in (("functions", "tools"), ("function_call", "tool_choice")):
        if read(fields, name, Any) not in (None, [], "none", "auto"):
            raise cannot(name, f"functions in the old way; send '{instead}'")


def _written(tool: _Tool, place: str) -> dict[str, Any]:
    if tool.type != "function":
        raise cannot(place, f"tools of the type '{tool.type[:40]}'")
    function = tool.function
    if function is None:
        raise RequestError(f"'{place}.function' is missing.", param=f"{place}.function")
    written: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        written["description"] = function.description
    if function.parameters and function.parameters != NULL:
        written["parameters"] = inlined(function.parameters, f"{place}.function.parameters")
    return {"type": "function", "function": written}


def _chosen(fields: Fields) -> Chosen:
    choice = read(fields, "tool_choice", str | _Choice)
    if choice is None:
        return _ALL
    if isinstance(choice, str):
        if choice not in _WORDS:
            raise _unreadable()
        return _WORDS[choice]
    if choice.type == "custom":
        raise cannot("tool_choice", "custom tools")
    if choice.type == "function" and choice.function is not None:
        return Chosen((choice.function.name,), must=True)
    if choice.type == "allowed_tools" and choice.allowed_tools is not None:
        return _allowed(choice.allowed_tools)
    raise _unreadable()


def _allowed(allowed: _Allowed) -> Chosen:
    if allowed.mode not in ("auto", "required"):
        raise _unreadable()
    names = tuple(listed.function.name for listed in allowed.tools if listed.function is not None)
    if len(names) < len(allowed.tools):
        raise cannot("tool_choice", "custom tools")
    return Chosen(names, must=allowed.mode == "required")


def _restricted(tools: list[dict[str, Any]], names: tuple[str, ...] | None) -> list[dict[str, Any]]:
    if names is None:
        return tools
    known = {tool["function"]["name"] for tool in tools}
    if not known.issuperset(names):
        raise RequestError("'tool_choice' names a tool that is not in 'tools'.", param="tool_choice")
    return [tool for tool in tools if tool["function"]["name"] in names]


def _unreadable() -> RequestError:
    kinds = "'none', 'auto', 'required', a function, or allowed tools"
    return RequestError(f"'tool_choice' must be {kinds}.", param="tool_choice")
