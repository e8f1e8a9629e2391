"""What is sent to Ollama for each field of a request, and what is refused."""

import copy
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.providers.ollama import Ollama
from mana_llm.schema import errors
from mana_llm.schema.wire import Origin
from tests.providers.ollama_world import ASKED, ollama, request, sent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "messages",
        "temperature",
        "top_p",
        "stop",
        "n",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
        "response_format",
        "reasoning_effort",
        "modalities",
        "user",
        "metadata",
    ]
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "function", "x"])
URLS = st.sampled_from(["http://x/a.png", "data:image/png;base64,iVBO", "data:image/png;base64,x", "data:,x", "\udcff"])
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "refusal"])},
    optional={
        "text": st.text(max_size=3),
        "image_url": URLS | st.fixed_dictionaries({"url": URLS}) | JSON,
        "input_audio": st.fixed_dictionaries({"data": st.sampled_from(["", "AAAA", "AAA"])}) | JSON,
    },
)
NAMED = st.fixed_dictionaries({"name": st.sampled_from(["f", "g"])}, optional={"arguments": st.text(max_size=3) | JSON})
CALLS = st.lists(st.fixed_dictionaries({"id": st.sampled_from(["1", "2"])}, optional={"function": NAMED}), max_size=2)
MEMBERS = {"role": ROLES | JSON, "content": st.lists(PARTS, max_size=2) | JSON, "tool_calls": CALLS}
MEMBERS |= {"tool_call_id": st.sampled_from(["1", "2"]), "function_call": NAMED}
MESSAGES = st.lists(st.fixed_dictionaries({}, optional=MEMBERS) | JSON, max_size=3)
REFS = st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "x"])
SCHEMAS = st.recursive(
    st.fixed_dictionaries({}, optional={"$ref": REFS, "type": st.sampled_from(["string", "object"])}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.fixed_dictionaries({"a": inner}),
            "allOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
            "$defs": st.fixed_dictionaries({"a": inner, "b": inner}),
        },
    ),
    max_leaves=6,
)
FUNCTIONS = st.fixed_dictionaries({"name": st.sampled_from(["f", "g"])}, optional={"parameters": SCHEMAS | JSON})
TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": FUNCTIONS}), max_size=2)


def test_body_holds_only_what_was_asked_when_nothing_else_was_given():
    """No default of ours is sent: neither options nor think."""
    assert sent() == {"model": "m", "messages": ASKED, "stream": False}
    assert sent(stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"max_tokens": 5}, {"num_predict": 5}),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"num_predict": 6}),
        ({"max_completion_tokens": None, "max_tokens": 5}, {"num_predict": 5}),
        ({"temperature": 0, "top_p": 0.5, "seed": 7}, {"temperature": 0, "top_p": 0.5, "seed": 7}),
        (
            {"presence_penalty": 1.5, "frequency_penalty": -1},
            {"presence_penalty": 1.5, "frequency_penalty": -1},
        ),
        ({"top_k": 20, "min_p": 0.1}, {"top_k": 20, "min_p": 0.1}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop": ["x", "y"]}),
    ],
)
def test_options_carry_the_sampling_when_it_is_given(fields, options):
    """Each of OpenAI's sampling fields has its option."""
    assert sent(**fields)["options"] == options


@pytest.mark.parametrize("fields", [{"stop": []}, {"stop": None}, {"temperature": None}, {"n": 1}, {"tools": []}])
def test_options_are_absent_when_the_value_says_nothing(fields):
    """Null, an empty list and n=1 are the defaults, and neither sent nor ignored."""
    call = ollama().encode_chat(request(**fields), "m")
    assert "options" not in json.loads(call.body)
    assert call.ignored == ()


@pytest.mark.parametrize(
    ("effort", "think"),
    [
        ("none", False),
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "max"),
    ],
)
def test_think_follows_the_effort_when_one_is_given(effort, think):
    """The mapping is that of Ollama's own /v1."""
    assert sent(reasoning_effort=effort)["think"] == think


def test_effort_none_is_the_least_level_when_the_model_takes_only_levels():
    """gpt-oss cannot be kept from thinking: it is asked for the least, and the field is named as ignored."""
    call = ollama().encode_chat(request(reasoning_effort="none"), "gpt-oss:20b")
    assert (json.loads(call.body)["think"], call.ignored) == ("low", ("reasoning_effort",))
    assert ollama().encode_chat(request(reasoning_effort="none"), "qwen3:8b").ignored == ()


def test_messages_keep_their_words_when_roles_and_parts_differ():
    """A developer is a system, parts are lines, and reasoning goes back as thinking."""
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "reasoning_content": "why"},
        {"role": "assistant", "content": "d", "reasoning": "so"},
    ]
    assert sent(messages=messages)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "c", "thinking": "why"},
        {"role": "assistant", "content": "d", "thinking": "so"},
    ]


def test_ignored_names_what_has_no_place_when_it_was_given():
    """Fields that change nothing essential are named, sorted, unless they are null or the gateway's own."""
    fields = {"user": "u", "logit_bias": {}, "store": None, "stream_options": {}, "model": "x", "new": 1}
    messages = [{"role": "user", "content": "hi", "name": "bob"}]
    call = ollama().encode_chat(request(**fields, messages=messages), "m")
    assert call.ignored == ("logit_bias", "messages.name", "new", "user")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"stop": [1]}, "stop"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
            "response_format.json_schema.schema",
        ),
        ({"messages": None}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [*ASKED, *ASKED, {"role": "user", "content": 5}]}, "messages[2].content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_request_is_refused_with_its_place_when_it_cannot_be_read(fields, param):
    """A wrong type is the client's mistake, and `param` says where."""
    with pytest.raises(errors.RequestError) as caught:
        ollama().encode_chat(request(**fields), "m")
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"function_call": {"name": "x"}}, "function_call"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]},
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {}}]}]},
            "messages[0].tool_calls[0]",
        ),
    ],
)
def test_request_is_refused_as_impossible_when_its_meaning_would_change(fields, param):
    """What changes the meaning is never left out in silence."""
    with pytest.raises(errors.ProviderCapabilityError) as caught:
        ollama().encode_chat(request(**fields), "m")
    assert caught.value.param == param


def test_endpoint_has_prefix_and_headers_when_they_are_given():
    """A proxy's prefix stands before /api, and the given header lines go with every call."""
    there = Ollama(Origin("https", "ollama.com", 443), "/x/", b"Authorization: Bearer k\r\n")
    call, models = there.encode_chat(request(), "m"), there.encode_models()
    assert call.endpoint.target == "/x/api/chat"
    assert call.endpoint.headers == b"Content-Type: application/json\r\nAuthorization: Bearer k\r\n"
    assert (models.endpoint.method, models.endpoint.target, models.body) == ("GET", "/x/api/tags", b"")


@given(st.dictionaries(NAMES, JSON, max_size=4), MESSAGES | JSON, TOOLS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_encode_raises_only_what_it_may_when_values_are_arbitrary(fields, messages, tools, stream):
    """Any JSON in any field gives a body or one of two errors, twice the same, and changes no request."""
    asked = request(stream, **{"messages": messages, "tools": tools, **fields})
    for ask in (ollama().questions, lambda asked, _: ollama().urls_to_fetch(asked)):
        with suppress(errors.RequestError, errors.ProviderCapabilityError):
            ask(asked, "m")
    before = copy.copy(asked.fields)
    outcomes = []
    for _ in range(2):
        try:
            call = ollama().encode_chat(asked, "m")
            outcomes.append((json.loads(call.body), call.ignored))
        except (errors.RequestError, errors.ProviderCapabilityError) as error:
            outcomes.append((str(error), error.param))
    assert outcomes[0] == outcomes[1]
    assert asked.fields == before


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": None, "refusal": "I will not."}, "I will not."),
        ({"refusal": "I will not."}, "I will not."),
        ({"content": "Well.", "refusal": "I will not."}, "Well."),
        ({"content": "Well.", "refusal": None}, "Well."),
    ],
)
def test_refusal_is_what_was_said_when_there_is_no_content(message, content):
    """An answer that was refused stands in the conversation as its words."""
    messages = [*ASKED, {"role": "assistant", **message}, *ASKED]
    assert sent(messages=messages)["messages"][1] == {"role": "assistant", "content": content}
