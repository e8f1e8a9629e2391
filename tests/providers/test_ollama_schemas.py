"""The JSON Schemas of tools, in the words that Ollama keeps, and of answers, in those that its grammar knows."""

import pytest

from mana_llm.schema import errors
from tests.providers.ollama_world import sent

TEXT = {"type": "string"}
NUMBER = {"type": "number"}


def parameters(schema):
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    return sent(tools=[tool])["tools"][0]["function"]["parameters"]


def within(schema):
    """What one property becomes."""
    return parameters({"type": "object", "properties": {"a": schema}})["properties"]["a"]


def test_schemas_are_one_when_all_of_them_hold():
    """Properties are joined, those of one name in depth, and what any of them requires is required."""
    base = {
        "type": "object",
        "properties": {"a": TEXT, "b": {"type": "object", "properties": {"c": TEXT}, "required": ["c"]}},
        "required": ["a"],
    }
    more = {"properties": {"b": {"properties": {"d": NUMBER}, "required": ["d"]}, "e": NUMBER}, "required": ["e", "a"]}
    beside = {"properties": {"f": TEXT}, "required": ["f"], "description": "all of it"}
    schema = {"$defs": {"Base": base}, "allOf": [{"$ref": "#/$defs/Base"}, more, True], **beside}
    assert parameters(schema) == {
        "type": "object",
        "properties": {
            "a": TEXT,
            "b": {"type": "object", "properties": {"c": TEXT, "d": NUMBER}, "required": ["c", "d"]},
            "e": NUMBER,
            "f": TEXT,
        },
        "required": ["a", "e", "f"],
        "description": "all of it",
    }


def test_schema_of_one_is_joined_when_something_stands_beside_it():
    """An `allOf` of one schema loses nothing to its neighbours, nor does the target of a reference."""
    base = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
    beside = {"properties": {"b": TEXT}, "required": ["b"]}
    whole = {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["a", "b"]}
    assert within({"allOf": [base], **beside}) == whole
    assert parameters({"$defs": {"Base": base}, "$ref": "#/$defs/Base", **beside}) == whole


def test_choices_are_those_of_all_when_several_schemas_have_some():
    """A value has to be in every `enum`."""
    assert within({"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["c", "b"]}]}) == {"enum": ["b", "c"]}


@pytest.mark.parametrize("value", ["a", 5, None, False])
def test_constant_is_the_only_choice_when_a_schema_has_one(value):
    """`const` is dropped there, `enum` is kept."""
    assert within({"const": value, "type": "string"}) == {"enum": [value], "type": "string"}
    assert within({"const": value, "enum": [value, "other"]}) == {"enum": [value]}


def test_property_keeps_its_name_when_that_is_a_word_of_the_schemas():
    """Names are the client's own, and so are values."""
    schema = {"properties": {"const": TEXT, "allOf": {"const": {"const": 1}}, "b": {"enum": [{"const": 2}]}}}
    assert parameters(schema) == {
        "properties": {"const": TEXT, "allOf": {"enum": [{"const": 1}]}, "b": {"enum": [{"const": 2}]}}
    }


def test_reference_is_written_out_when_it_leads_through_a_list():
    """A pointer may count the members of a list."""
    schema = {"$defs": {"x": {"anyOf": [TEXT, NUMBER]}}, "properties": {"a": {"$ref": "#/$defs/x/anyOf/1"}}}
    assert parameters(schema) == {"properties": {"a": NUMBER}}


@pytest.mark.parametrize(
    "pointer", ["#/$defs/x/anyOf/2", "#/$defs/x/anyOf/-1", "#/$defs/x/anyOf/a", "#/$defs/x/anyOf/²", "#x", "a#/$defs/x"]
)
def test_reference_is_refused_when_it_leads_nowhere(pointer):
    """What is not within the schema is the client's mistake."""
    schema = {"$defs": {"x": {"anyOf": [TEXT, NUMBER]}}, "properties": {"a": {"$ref": pointer}}}
    with pytest.raises(errors.RequestError) as caught:
        parameters(schema)
    assert (caught.value.status, caught.value.param) == (400, "tools[0].function.parameters")


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"x": {"anyOf": [{"items": {"$ref": "#/$defs/x/anyOf/0"}}]}}, "$ref": "#/$defs/x/anyOf/0"},
        {"$defs": {"x": {"allOf": [TEXT, {"$ref": "#/$defs/x"}]}}, "properties": {"a": {"$ref": "#/$defs/x"}}},
        {"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}},
    ],
)
def test_schema_is_impossible_when_it_contains_itself_by_a_list(schema):
    """A schema within itself has no end that could be written out: a 400 that says so."""
    with pytest.raises(errors.ProviderCapabilityError, match="contains itself") as caught:
        parameters(schema)
    assert (caught.value.status, caught.value.param) == (400, "tools[0].function.parameters")


def test_constant_of_an_answer_is_the_only_choice_when_its_schema_has_one():
    """The grammar of an answer knows references, so these stay; a constant becomes its one choice."""
    schema = {
        "$defs": {"A": {"const": "a"}},
        "properties": {"const": {"$ref": "#/$defs/A"}, "b": {"allOf": [{"const": 1}]}},
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert sent(response_format=wanted)["format"] == {
        "$defs": {"A": {"enum": ["a"]}},
        "properties": {"const": {"$ref": "#/$defs/A"}, "b": {"allOf": [{"enum": [1]}]}},
        "additionalProperties": False,
    }
