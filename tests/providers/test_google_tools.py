"""Tools, choices, calls and results on their way to Gemini."""

import json

import pytest

from mana_llm.schema import errors
from tests.providers.google_cases import ASKED, called, function, google, request, result, sent

CITY = {"type": "object", "properties": {"city": {"type": ["string", "null"], "const": "x"}}, "$defs": {"a": {}}}
TOOLS = [function("f", CITY, description="d"), function("g")]
USER = {"role": "user", "content": "go"}


def contents(*messages, model="gemini-2.5-flash"):
    return sent(model, messages=[USER, *messages])["contents"][1:]


def assistant(*calls, **more):
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def test_declarations_carry_the_schema_verbatim_when_tools_are_given():
    """Name, description and the client's own JSON Schema, byte for byte; a missing description stays missing."""
    body = google().encode_chat(request(tools=TOOLS), "gemini-2.5-flash").body
    assert json.loads(body)["tools"] == [
        {"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": CITY}, {"name": "g"}]}
    ]
    assert json.dumps(CITY).encode() in body
    assert "toolConfig" not in json.loads(body)


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        ({"type": "object", "properties": {}}, False),
        ({"type": "object"}, False),
        ({}, False),
        (None, False),
        ({"type": "object", "properties": {}, "required": [], "additionalProperties": False}, False),
        ({"type": "object", "additionalProperties": {"type": "string"}}, True),
        ({"anyOf": [{"type": "object"}]}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}}}, True),
    ],
)
def test_schema_is_left_out_when_it_says_nothing_of_arguments(schema, kept):
    """Old models refuse empty properties; a schema that means something stays."""
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    (declaration,) = sent(tools=[tool])["tools"][0]["functionDeclarations"]
    assert ("parametersJsonSchema" in declaration) is kept


def test_schema_is_cut_down_when_the_model_is_before_2_5():
    """Models that take the subset only get it under its own name."""
    (declaration,) = sent("gemini-2.0-flash", tools=TOOLS[:1])["tools"][0]["functionDeclarations"]
    city = {"enum": ["x"], "nullable": True, "type": "string"}
    assert declaration["parameters"] == {"type": "object", "properties": {"city": city}}


@pytest.mark.parametrize(("strict", "ignored"), [(True, ("tools.function.strict",)), (False, ()), (None, ())])
def test_strict_is_ignored_by_name_when_a_tool_asks_for_it(strict, ignored):
    """Gemini has no such promise for one function, and the client learns that it was not made."""
    tools = [function("g"), function("f", CITY, strict=strict)]
    assert google().encode_chat(request(tools=tools), "gemini-3.5-flash").ignored == ignored
    assert sent(tools=tools)["tools"][0]["functionDeclarations"] == [
        {"name": "g"},
        {"name": "f", "parametersJsonSchema": CITY},
    ]


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "g"}}, {"mode": "ANY", "allowedFunctionNames": ["g"]}),
        (("auto", ["f"]), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
        (("required", ["f", "g"]), {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}),
    ],
)
def test_choice_becomes_a_calling_mode_when_it_is_given(choice, calling):
    """Every form of tool_choice has its mode."""
    if isinstance(choice, tuple):
        allowed = [{"type": "function", "function": {"name": name}} for name in choice[1]]
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": choice[0], "tools": allowed}}
    assert sent(tools=TOOLS, tool_choice=choice)["toolConfig"] == {"functionCallingConfig": calling}


@pytest.mark.parametrize("fields", [{"tools": []}, {"tools": None}, {"tool_choice": "none"}, {"functions": []}])
def test_no_tools_are_sent_when_none_are_given(fields):
    """Empty lists and choices without tools are nothing."""
    assert sent(**fields).keys() == {"contents"}


CUSTOM = {"type": "custom", "custom": {"name": "c"}}


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"tools": [CUSTOM]}, errors.ProviderCapabilityError, "tools[0]"),
        ({"tools": [*TOOLS, {"type": "web_search"}]}, errors.ProviderCapabilityError, "tools[2]"),
        ({"tools": [{"type": "function"}]}, errors.RequestError, "tools[0]"),
        ({"tools": [function("f", 5)]}, errors.RequestError, "tools[0].function.parameters"),
        ({"tools": {}}, errors.RequestError, "tools"),
        ({"functions": [{"name": "f"}]}, errors.ProviderCapabilityError, "functions"),
        ({"tool_choice": "required"}, errors.RequestError, "tool_choice"),
        ({"function_call": {"name": "f"}}, errors.RequestError, "function_call"),
        ({"tools": TOOLS, "tool_choice": "any"}, errors.RequestError, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, errors.RequestError, "tool_choice.function"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, errors.RequestError, "tool_choice.allowed_tools"),
        ({"tools": TOOLS, "tool_choice": CUSTOM}, errors.ProviderCapabilityError, "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "h"}}},
            errors.RequestError,
            "tool_choice",
        ),
        (
            {"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "x", "tools": []}}},
            errors.RequestError,
            "tool_choice.allowed_tools.mode",
        ),
        (
            {"messages": [USER, assistant({**CUSTOM, "id": "a"})]},
            errors.ProviderCapabilityError,
            "messages[1].tool_calls[0]",
        ),
        (
            {"messages": [USER, assistant(called("a", arguments="{secret"))]},
            errors.RequestError,
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [USER, assistant(called("a", arguments="[1]"))]},
            errors.RequestError,
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            {"messages": [USER, assistant(called("a", name=""))]},
            errors.RequestError,
            "messages[1].tool_calls[0].function.name",
        ),
        ({"messages": [USER, result("a")]}, errors.RequestError, "messages[1].tool_call_id"),
        (
            {"messages": [USER, assistant(called("a")), result("b")]},
            errors.RequestError,
            "messages[2].tool_call_id",
        ),
        (
            {"messages": [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]},
            errors.ProviderCapabilityError,
            "messages[1].function_call",
        ),
        (
            {"messages": [USER, {"role": "function", "name": "f", "content": "x"}]},
            errors.ProviderCapabilityError,
            "messages[1].role",
        ),
    ],
)
def test_tools_are_refused_with_their_place_when_they_cannot_be_sent(fields, error, param):
    """Mistakes and impossible wishes name their place and quote no content."""
    with pytest.raises(error) as caught:
        google().encode_chat(request(**fields), "gemini-3.5-flash")
    assert (caught.value.status, caught.value.param) == (400, param)
    assert "secret" not in caught.value.message


def test_unknown_id_is_named_when_a_result_has_one():
    """Who sends the result of no call learns which id it was."""
    with pytest.raises(errors.RequestError, match="call_lost"):
        google().encode_chat(request(messages=[USER, assistant(called("a")), result("call_lost")]), "m")


def test_steps_become_turns_when_calls_and_results_alternate():
    """A step's calls are the model's turn, its results one user's turn in the order of the calls, with their names."""
    steps = contents(
        assistant(called("a", "f", '{"n": 1.50}'), called("b", "g", ""), content="look"),
        result("b", "second"),
        result("a", "first"),
        assistant(called("a", "h")),
        result("a", [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]),
        {"role": "user", "content": "thanks"},
    )
    response = {"response": {"output": "first"}}
    assert steps == [
        {
            "role": "model",
            "parts": [
                {"text": "look"},
                {"functionCall": {"id": "a", "name": "f", "args": {"n": 1.5}}},
                {"functionCall": {"id": "b", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a", "name": "f", **response}},
                {"functionResponse": {"id": "b", "name": "g", "response": {"output": "second"}}},
            ],
        },
        {"role": "model", "parts": [{"functionCall": {"id": "a", "name": "h", "args": {}}}]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a", "name": "h", "response": {"output": "x\ny"}}},
                {"text": "thanks"},
            ],
        },
    ]


def test_arguments_keep_their_numbers_when_they_are_sent():
    """The arguments' text goes into the body as it is: no number loses a digit."""
    messages = [USER, assistant(called("a", arguments='{"n": 1.50, "big": 123456789012345678901234567890}'))]
    assert (
        b'{"n": 1.50, "big": 123456789012345678901234567890}'
        in google().encode_chat(request(messages=messages), "m").body
    )


def test_synthesised_id_stays_here_when_it_comes_back():
    """An id of our making is resolved to the function's name and never sent; any other is sent both times."""
    first, second = contents(assistant(called("call_mana_1"), called("b", "g")), result("b"), result("call_mana_1"))
    assert [part["functionCall"].get("id") for part in first["parts"]] == [None, "b"]
    assert [part["functionResponse"].get("id") for part in second["parts"]] == [None, "b"]
    assert [part["functionResponse"]["name"] for part in second["parts"]] == ["f", "g"]


def test_results_find_their_calls_when_ids_are_alike():
    """Calls without ids, as some servers make them, are answered in their order."""
    _, turn = contents(assistant(called("", "f"), called("", "g")), result("", "1"), result("", "2"))
    assert [(part["functionResponse"]["name"], part["functionResponse"]["response"]) for part in turn["parts"]] == [
        ("f", {"output": "1"}),
        ("g", {"output": "2"}),
    ]


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ("sunny", {"output": "sunny"}),
        ("", {"output": ""}),
        ("[1, 2]", {"output": "[1, 2]"}),
        ("{not json", {"output": "{not json"}),
        (' {"temp": 1.0}', {"temp": 1.0}),
        ("{}", {}),
    ],
)
def test_result_becomes_an_object_when_it_is_a_text(content, response):
    """Gemini wants an object: a JSON object is one, all else is its output."""
    _, turn = contents(assistant(called("a")), result("a", content))
    assert turn["parts"][0]["functionResponse"]["response"] == response


def test_result_may_be_an_image_when_the_model_is_recent():
    """From Gemini 3 on a result has parts; before, an image in it is refused."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    messages = (assistant(called("a")), result("a", [{"type": "text", "text": "see"}, image]))
    part = contents(*messages, model="gemini-3.5-flash")[1]["parts"][0]["functionResponse"]
    assert part["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]
    assert part["response"] == {"output": "see"}
    with pytest.raises(errors.ProviderCapabilityError):
        contents(*messages)


def test_request_is_unchanged_when_it_was_sent_twice():
    """A second attempt at another model sees what the first one saw."""
    asked = request(messages=[*ASKED, assistant(called("a")), result("a")], tools=TOOLS)
    first = google().encode_chat(asked, "gemini-3.5-flash").body
    google().encode_chat(asked, "gemini-2.0-flash")
    assert google().encode_chat(asked, "gemini-3.5-flash").body == first
