"""Tools, the choice among them, calls and results, as they go to Ollama."""

import json

import pytest

from mana_llm.schema import errors
from tests.providers.ollama_world import ASKED, TIME, WEATHER, called, sent

NAMED = {"type": "function", "function": {"name": "time"}}
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo", "n": 1.50}'}},
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": ""}},
]


def names(**fields):
    return [tool["function"]["name"] for tool in sent(**fields).get("tools", [])]


def allowed(mode, *tools):
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def parameters(schema):
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    return sent(tools=[tool])["tools"][0]["function"]["parameters"]


def test_tools_go_as_they_came_when_they_are_functions():
    """Name, description and parameters are OpenAI's; nothing is added."""
    assert sent(tools=[WEATHER, TIME])["tools"] == [WEATHER, TIME]


@pytest.mark.parametrize(
    ("choice", "offered", "ignored"),
    [
        (None, ["weather", "time"], ()),
        ("auto", ["weather", "time"], ()),
        ("none", [], ()),
        ("required", ["weather", "time"], ("tool_choice",)),
        (NAMED, ["time"], ("tool_choice",)),
        (allowed("auto", NAMED), ["time"], ()),
        (allowed("auto"), [], ()),
        (allowed("required", NAMED), ["time"], ("tool_choice",)),
    ],
)
def test_choice_narrows_the_tools_when_it_cannot_be_forced(choice, offered, ignored):
    """Each form of `tool_choice`: what can be narrowed is, and what cannot be enforced is named as ignored."""
    fields = {"tools": [WEATHER, TIME], "tool_choice": choice}
    assert names(**fields) == offered
    assert called(**fields).ignored == ignored


@pytest.mark.parametrize(
    "choice",
    [
        "any",
        {"type": "function"},
        {"type": "other"},
        {"type": "function", "function": {"name": "unknown"}},
        allowed("auto", {"type": "function", "function": {"name": "unknown"}}),
        allowed("sometimes", NAMED),
        5,
    ],
)
def test_choice_is_refused_when_it_is_none_of_the_forms(choice):
    """A choice that cannot be read, or names no tool of the request, is the client's mistake."""
    with pytest.raises(errors.RequestError) as caught:
        sent(tools=[TIME], tool_choice=choice)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("choice", [{"type": "custom", "custom": {"name": "x"}}, allowed("auto", {"type": "custom"})])
def test_choice_is_impossible_when_it_is_of_custom_tools(choice):
    """Custom tools have no place in Ollama."""
    with pytest.raises(errors.ProviderCapabilityError):
        sent(tools=[TIME], tool_choice=choice)


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"parallel_tool_calls": True}, ()),
        ({"parallel_tool_calls": False}, ("parallel_tool_calls",)),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, ()),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, ("tools.function.strict",)),
    ],
)
def test_ignored_names_what_ollama_cannot_promise_when_tools_are_offered(fields, ignored):
    """One call at a time and strict arguments cannot be asked for; without tools there is nothing to promise."""
    assert called(**{"tools": [TIME], **fields}).ignored == ignored


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "function"}, "tools[0].function"),
        ({"type": "function", "function": {}}, "tools"),
        ({"type": "function", "function": {"name": "f", "parameters": 5}}, "tools[0].function.parameters"),
        (
            {"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/$defs/a"}}},
            "tools[0].function.parameters",
        ),
    ],
)
def test_tool_is_refused_with_its_place_when_it_cannot_be_read(tool, param):
    """A broken tool is the client's mistake."""
    with pytest.raises(errors.RequestError) as caught:
        sent(tools=[tool])
    assert caught.value.param == param


def test_calls_and_results_go_by_name_when_they_are_sent_back():
    """Arguments become objects with their numbers as they came; a result names the function of its call."""
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
    ]
    assert sent(messages=messages)["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Oslo", "n": 1.5}}},
                {"id": "call_2", "function": {"name": "time", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "noon", "tool_name": "time", "tool_call_id": "call_2"},
        {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "call_1"},
    ]
    assert b'"n": 1.50' in called(messages=messages).body
    assert called(messages=messages).ignored == ()


def test_old_calls_are_carried_when_a_history_has_them():
    """`function_call` and the `function` role are calls and results like the new ones."""
    messages = [
        {"role": "assistant", "content": None, "function_call": {"name": "time", "arguments": "{}"}},
        {"role": "function", "name": "time", "content": "noon"},
    ]
    assert sent(messages=messages)["messages"] == [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "time", "arguments": {}}}]},
        {"role": "tool", "content": "noon", "tool_name": "time"},
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "x"}, "tool_call_id"),
        ({"role": "tool", "content": "x", "tool_call_id": "call_9"}, "tool_call_id"),
        ({"role": "function", "content": "x"}, "name"),
        ({"role": "tool", "tool_call_id": "call_9", "name": "f"}, "content"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "tool_calls[0].function"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]}, "tool_calls[0].function.name"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "[1]"}}]},
            "tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"a"'}}]},
            "tool_calls[0].function.arguments",
        ),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "5"}}, "function_call.arguments"),
    ],
)
def test_turn_is_refused_with_its_place_when_its_calls_do_not_fit(message, param):
    """Arguments that are no object and results without their call are the client's mistake."""
    with pytest.raises(errors.RequestError) as caught:
        sent(messages=[*ASKED, message])
    assert caught.value.param == f"messages[1].{param}"


def test_unknown_id_is_named_when_no_call_has_it():
    """The message says which id it was, cut short."""
    with pytest.raises(errors.RequestError, match="'call_9'"):
        sent(messages=[{"role": "tool", "content": "x", "tool_call_id": "call_9"}])


def test_schema_is_sent_as_it_came_when_ollama_keeps_all_of_it():
    """A schema without references is not written anew, byte for byte."""
    schema = {"type": "object", "properties": {"a": {"type": "number", "minimum": 1.0}}, "additionalProperties": False}
    assert (
        json.dumps(schema).encode()
        in called(tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}]).body
    )


def test_references_are_written_out_when_a_schema_has_them():
    """The target stands in place of a `$ref`, with what stood beside it; definitions are gone."""
    city = {"type": "object", "properties": {"name": {"type": "string"}, "near": {"$ref": "#/$defs/Name"}}}
    schema = {
        "type": "object",
        "$defs": {"City": city, "Name": {"type": "string", "description": "a name"}, "a/b": {"type": "null"}},
        "properties": {
            "city": {"$ref": "#/$defs/City"},
            "home": {"anyOf": [{"$ref": "#/$defs/City"}, {"type": "null"}], "description": "or none"},
            "cities": {"type": "array", "items": {"$ref": "#/$defs/City"}},
            "nick": {"allOf": [{"$ref": "#/$defs/Name"}], "description": "another"},
            "kind": {"oneOf": [{"$ref": "#/$defs/a~1b"}, {"type": "integer"}]},
            "$ref": {"enum": [{"$ref": "x"}]},
        },
    }
    written_city = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "near": {"type": "string", "description": "a name"}},
    }
    assert parameters(schema) == {
        "type": "object",
        "properties": {
            "city": written_city,
            "home": {"anyOf": [written_city, {"type": "null"}], "description": "or none"},
            "cities": {"type": "array", "items": written_city},
            "nick": {"type": "string", "description": "another"},
            "kind": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
            "$ref": {"enum": [{"$ref": "x"}]},
        },
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "properties": {"x": {"$ref": "#/$defs/a"}}},
        {
            "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {}},
            "$ref": "#/$defs/d0",
        },
        {"$defs": {f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(500)}, "$ref": "#/$defs/d0"},
    ],
)
def test_schema_is_impossible_when_it_contains_itself_or_explodes(schema):
    """A schema that cannot be written out within measure is refused before anything is sent."""
    with pytest.raises(errors.ProviderCapabilityError) as caught:
        parameters(schema)
    assert caught.value.param == "tools[0].function.parameters"
