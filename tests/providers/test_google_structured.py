"""Structured answers: what is asked of Gemini, the subset of schemas, and fences that are taken off."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.providers.google.schema_subset import subset_of
from mana_llm.schema import errors
from tests.providers.google_cases import answer, function, google, request, sent, streamed
from tests.simulator.raw import ask, http, run

JSON_MIME = {"responseMimeType": "application/json"}
SCHEMA = {"type": "object", "properties": {"b": {"const": 1}, "a": {"type": ["string", "null"]}}, "$defs": {}}
OBJECT = {"type": "json_object"}


def wanted(schema=SCHEMA, **more):
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True, **more}}


@pytest.mark.parametrize(
    ("model", "response_format", "config"),
    [
        ("gemini-3.5-flash", {"type": "text"}, None),
        ("gemini-3.5-flash", OBJECT, JSON_MIME),
        ("gemini-3.5-flash", wanted(), {**JSON_MIME, "responseJsonSchema": SCHEMA}),
        ("gemini-2.5-flash", wanted(), {**JSON_MIME, "responseJsonSchema": SCHEMA}),
        ("something-new", wanted(), {**JSON_MIME, "responseJsonSchema": SCHEMA}),
        ("gemini-3.5-flash", {"type": "json_schema", "json_schema": {"name": "n"}}, JSON_MIME),
        (
            "gemini-2.0-flash",
            wanted(),
            {
                **JSON_MIME,
                "responseSchema": {
                    "type": "object",
                    "properties": {"b": {}, "a": {"type": "string", "nullable": True}},
                },
            },
        ),
    ],
)
def test_format_becomes_the_models_when_it_is_given(model, response_format, config):
    """The mime type for JSON, the client's schema verbatim, the subset where the model is known to be old."""
    assert sent(model, response_format=response_format).get("generationConfig") == config


def test_schema_is_verbatim_when_it_is_sent():
    """Order and numbers stay as the client wrote them."""
    text = b'{"type": "json_schema", "json_schema": {"schema": {"z": 1.50, "a": {"b": []}}}}'
    asked = request(response_format={})
    asked.fields["response_format"] = type(asked.fields["messages"])(text)
    assert b'{"z": 1.50, "a": {"b": []}}' in google().encode_chat(asked, "gemini-3.5-flash").body


@pytest.mark.parametrize(
    ("response_format", "error", "param"),
    [
        ({"type": "grammar"}, errors.ProviderCapabilityError, "response_format"),
        ({"type": "json_schema"}, errors.RequestError, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": 5}}, errors.RequestError, "response_format"),
        ("json_object", errors.RequestError, "response_format"),
    ],
)
def test_format_is_refused_with_its_place_when_it_cannot_be_sent(response_format, error, param):
    """A format that is unknown or broken is a 400 that says where."""
    with pytest.raises(error) as caught:
        google().encode_chat(request(response_format=response_format), "gemini-3.5-flash")
    assert (caught.value.status, caught.value.param) == (400, param)


def test_json_with_tools_is_refused_when_the_model_is_before_3():
    """Gemini 2 answers 400 to JSON together with functions, so that nothing is sent; 3 takes both."""
    fields = {"response_format": OBJECT, "tools": [function("f")]}
    for model in ("gemini-2.5-flash", "models/gemini-2.0-flash"):
        with pytest.raises(errors.ProviderCapabilityError) as caught:
            google().encode_chat(request(**fields), model)
        assert caught.value.param == "response_format"
    for model in ("gemini-3-flash-preview", "gemini-flash-latest", "something-new"):
        assert sent(model, **fields).keys() == {"contents", "tools", "generationConfig"}


def test_tools_stay_here_when_none_may_be_called_beside_json():
    """Tools that may not be called are no reason to refuse JSON: models before 3 do not hear of them."""
    fields = {"response_format": OBJECT, "tools": [function("f")], "tool_choice": "none"}
    assert sent("gemini-2.5-flash", **fields).keys() == {"contents", "generationConfig"}
    assert sent("gemini-3.5-flash", **fields)["toolConfig"] == {"functionCallingConfig": {"mode": "NONE"}}
    told = {**fields, "response_format": {"type": "text"}}
    assert sent("gemini-2.5-flash", **told)["toolConfig"] == {"functionCallingConfig": {"mode": "NONE"}}
    with pytest.raises(errors.RequestError):
        google().encode_chat(request(**{**fields, "tools": [{"type": "function"}]}), "gemini-2.5-flash")


def test_simulator_refuses_json_with_tools_when_the_model_is_before_3():
    """The rule above is Gemini's: before 3 tools beside JSON are a 400, and what is sent here is a 200."""

    async def check(simulator):
        fields = {"response_format": OBJECT, "tools": [function("f")], "tool_choice": "none"}
        for model, status in (("gemini-3.5-flash", 200), ("gemini-2.5-flash", 400)):
            body = {**sent("gemini-3.5-flash", **fields)}
            path = f"/v1beta/models/{model}:generateContent"
            assert (await ask(simulator, http("POST", path, body, "x-goog-api-key: k\r\n")))[0] == status
        call = google().encode_chat(request(**fields), "gemini-2.5-flash")
        raw = http("POST", call.endpoint.target, json.loads(call.body), "x-goog-api-key: k\r\n")
        assert (await ask(simulator, raw))[0] == 200

    run(check)


@pytest.mark.parametrize(
    ("schema", "subset"),
    [
        ({"$schema": "x", "type": "object", "additionalProperties": False}, {"type": "object"}),
        ({"type": "string", "minLength": 1, "format": "date"}, {"type": "string", "minLength": 1, "format": "date"}),
        ({"const": "x"}, {"enum": ["x"], "type": "string"}),
        ({"enum": ["a", None]}, {"enum": ["a"], "nullable": True, "type": "string"}),
        ({"enum": [1, 2], "type": "integer"}, {"type": "integer"}),
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        (
            {"oneOf": [{"type": "string"}, {"type": "null"}], "title": "t"},
            {"type": "string", "nullable": True, "title": "t"},
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}], "nullable": True},
        ),
        ({"type": "array", "items": {"const": "a"}}, {"type": "array", "items": {"enum": ["a"], "type": "string"}}),
        (
            {"$ref": "#/$defs/A", "description": "d", "$defs": {"A": {"type": "integer"}}},
            {"type": "integer", "description": "d"},
        ),
        ({"$ref": "#/elsewhere"}, {}),
        (True, {}),
        ({"anyOf": [{"type": "null"}]}, {"nullable": True}),
    ],
)
def test_subset_keeps_the_meaning_when_a_schema_is_cut_down(schema, subset):
    """Constants, unions and references are said in the subset's words, the rest is left out."""
    assert subset_of(schema) == subset


def test_subset_ends_when_a_schema_refers_to_itself():
    """A tree of trees is followed to a depth and then is anything."""
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/T"}}}
    found = json.dumps(subset_of({"$ref": "#/$defs/T", "$defs": {"T": tree}}))
    assert 5 < found.count("left") < 20
    assert subset_of({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}) == {}


SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "oneOf", "$ref", "$defs", "const", "enum"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(SCHEMAS)
@settings(max_examples=150, deadline=None)
def test_subset_is_an_object_when_the_schema_is_arbitrary(schema):
    """No JSON breaks the conversion, and none of it is changed by it."""
    before = json.dumps(schema)
    found = subset_of(schema)
    assert isinstance(found, dict)
    assert not {"$ref", "oneOf", "const", "$defs"} & found.keys()
    assert json.dumps(schema) == before


FENCED = ["```js", 'on\n{"a"', ": 1}", "\n``", "`"]


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [(OBJECT, '{"a": 1}'), (wanted(), '{"a": 1}'), ({"type": "text"}, "".join(FENCED))],
)
def test_fence_is_taken_off_when_the_answer_is_structured(response_format, expected):
    """Plain and streamed, and only where JSON was asked for."""
    asked = request(response_format=response_format)
    whole = google().decode_chat(answer({"text": "".join(FENCED)}), asked)
    assert whole.fields["choices"][0]["message"]["content"] == expected
    events = [answer({"text": text}, reason=None) for text in FENCED[:-1]] + [answer({"text": FENCED[-1]})]
    chunks = streamed(google(), asked, *events)
    assert "".join(chunk.choices[0]["delta"].get("content", "") for chunk in chunks) == expected
    assert (chunks[-1].finished, chunks[-1].choices[0]["finish_reason"]) == (True, "stop")


def test_held_back_text_is_not_lost_when_it_was_no_fence():
    """What looked like the beginning or the end of a fence comes out at the end."""
    asked = request(response_format=OBJECT)
    for text in ("``", '```json\n{"a": "``'):
        chunks = streamed(google(), asked, answer({"text": text}))
        said = "".join(chunk.choices[0]["delta"].get("content", "") for chunk in chunks)
        assert said == google().decode_chat(answer({"text": text}), asked).fields["choices"][0]["message"]["content"]
        assert said == text.removeprefix("```json\n")
        assert any(chunk.has_content for chunk in chunks)
