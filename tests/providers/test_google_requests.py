"""What is sent to Gemini for each field of a request, and what is refused."""

import copy
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.providers.google import Google
from mana_llm.schema import errors
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import Origin

KEY = "AIzaSyMadeUpForTests_0123456789"
ASKED = [{"role": "user", "content": "hi"}]
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
        "functions",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "modalities",
        "user",
        "metadata",
    ]
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "x"])
PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "video_url", "x"])},
        optional={
            "text": JSON,
            "image_url": JSON | st.fixed_dictionaries({"url": st.text() | st.just("data:image/png;base64,AA==")}),
            "input_audio": st.fixed_dictionaries({"data": st.text(), "format": st.sampled_from(["wav", "x"])}),
            "file": JSON,
            "video_url": JSON,
        },
    ),
    max_size=2,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from(["a", "b", "call_mana_1"]), "function": st.fixed_dictionaries({"name": st.just("f")})},
        optional={"extra_content": JSON, "type": st.sampled_from(["function", "custom"])},
    ),
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": ROLES | JSON,
            "content": JSON | PARTS,
            "tool_calls": CALLS,
            "tool_call_id": st.sampled_from(["a", "b", "call_mana_1"]),
        },
    )
    | JSON,
    max_size=4,
)


def google():
    return Google(Origin("https", "generativelanguage.googleapis.com", 443), "", KEY)


def request(stream=False, **fields):
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in {"messages": ASKED, **fields}.items()}
    return ChatRequest(raw, "", stream, include_usage=False)


def sent(model="gemini-3.5-flash", **fields):
    return json.loads(google().encode_chat(request(**fields), model).body)


def test_body_holds_only_what_was_asked_when_nothing_else_was_given():
    """No default of ours is sent."""
    assert sent() == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"maxOutputTokens": 6}),
        ({"max_tokens": 5}, {"maxOutputTokens": 5}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "topP": 0.5, "topK": 3}),
        ({"presence_penalty": 1, "frequency_penalty": -1}, {"presencePenalty": 1, "frequencyPenalty": -1}),
        ({"n": 2, "seed": 7}, {"candidateCount": 2, "seed": 7}),
        ({"stop": "x"}, {"stopSequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stopSequences": ["x", "y"]}),
        ({"logprobs": True, "top_logprobs": 2}, {"responseLogprobs": True, "logprobs": 2}),
    ],
)
def test_config_carries_the_sampling_when_it_is_given(fields, config):
    """Each of OpenAI's sampling fields has its place, in camel case."""
    assert sent(**fields)["generationConfig"] == config


SHOWN = {"includeThoughts": True}


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-pro", "low", {"thinkingBudget": 1024, **SHOWN}),
        ("gemini-2.5-flash", "minimal", {"thinkingBudget": 128, **SHOWN}),
        ("gemini-2.5-flash-lite", "minimal", {"thinkingBudget": 512, **SHOWN}),
        ("gemini-2.5-flash-lite", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "max", {"thinkingBudget": 24576, **SHOWN}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.5-flash", "minimal", {"thinkingLevel": "MINIMAL", **SHOWN}),
        *((name, "minimal", {"thinkingLevel": "LOW", **SHOWN}) for name in ("gemini-3.7-flash", "gemini-3.8-flash")),
        *((name, "none", {"thinkingLevel": "LOW"}) for name in ("gemini-3-pro-preview", "gemini-3.1-pro-preview")),
        ("gemini-flash-latest", "minimal", {"thinkingLevel": "LOW", **SHOWN}),
        ("gemini-3.5-flash", "medium", {"thinkingLevel": "MEDIUM", **SHOWN}),
        ("models/gemini-4-argon", "xhigh", {"thinkingLevel": "HIGH", **SHOWN}),
    ],
)
def test_thinking_follows_the_effort_when_the_model_has_one(model, effort, config):
    """2.5 takes a budget, 3 and later a level, no model gets what it refuses; both spellings of the wish mean one."""
    for fields in ({"reasoning_effort": effort}, {"reasoning": {"effort": effort}}):
        call = google().encode_chat(request(**fields), model)
        assert json.loads(call.body)["generationConfig"] == {"thinkingConfig": config}
        assert call.ignored == ()


@pytest.mark.parametrize(
    ("model", "fields", "config"),
    [
        ("gemini-2.5-pro", {"reasoning": {"max_tokens": 99999}}, {"thinkingBudget": 32768, **SHOWN}),
        ("gemini-2.5-flash", {"reasoning": {"max_tokens": 700, "exclude": True}}, {"thinkingBudget": 700}),
        ("gemini-2.5-flash", {"reasoning": {"max_tokens": 0}}, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", {"reasoning": {"enabled": False}}, {"thinkingBudget": 0}),
        ("gemini-2.5-flash", {"reasoning": {"enabled": True}}, SHOWN),
        ("gemini-3.5-flash", {"reasoning": {"max_tokens": 127}}, {"thinkingLevel": "MINIMAL", **SHOWN}),
        ("gemini-3.5-flash", {"reasoning": {"max_tokens": 1500}}, {"thinkingLevel": "LOW", **SHOWN}),
        ("gemini-3.5-flash", {"reasoning": {"max_tokens": 99999}}, {"thinkingLevel": "HIGH", **SHOWN}),
        ("gemini-3.5-flash", {"reasoning": {"effort": "low", "exclude": True}}, {"thinkingLevel": "LOW"}),
        (
            "gemini-3.5-flash",
            {"reasoning_effort": "high", "reasoning": {"effort": "low"}},
            {"thinkingLevel": "HIGH", **SHOWN},
        ),
    ],
)
def test_thinking_follows_the_other_wishes_when_reasoning_is_an_object(model, fields, config):
    """Tokens, exclusion and the switch of OpenRouter's form are understood; OpenAI's field goes before it."""
    assert sent(model, **fields)["generationConfig"] == {"thinkingConfig": config}


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-2.5-pro", "gemini-3.5-flash", "gemini-4-argon"])
@pytest.mark.parametrize("fields", [{}, {"reasoning_effort": None}, {"reasoning": {"exclude": True}}])
def test_nothing_is_said_of_thinking_when_nobody_asked(model, fields):
    """Without a wish for reasoning no model hears of it."""
    assert "generationConfig" not in sent(model, **fields)


def test_effort_is_ignored_when_the_model_has_no_thinking_to_set():
    """Gemma and 2.0 refuse a thinkingConfig, so the field is named instead."""
    for model in ("gemma-4-27b", "gemini-2.0-flash"):
        call = google().encode_chat(request(reasoning_effort="low", reasoning={"effort": "low"}), model)
        assert "generationConfig" not in json.loads(call.body)
        assert call.ignored == ("reasoning", "reasoning_effort")


def test_turns_are_merged_when_neighbours_have_one_role():
    """System and developer messages are the instruction, neighbours one turn, empty answers no turn."""
    messages = [
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        {"role": "assistant", "content": ""},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "e"},
    ]
    body = sent(messages=messages)
    assert body["systemInstruction"] == {"parts": [{"text": "s"}, {"text": "d"}]}
    assert body["contents"] == [
        {"role": "model", "parts": [{"text": "a"}]},
        {"role": "user", "parts": [{"text": "b"}, {"text": "c"}, {"text": "e"}]},
    ]


@pytest.mark.parametrize("content", [None, "", []])
def test_refusal_is_what_was_said_when_an_answer_has_no_content(content):
    """An assistant's message that refused says so to Gemini, too; beside content the content stands."""
    refused = {"role": "assistant", "content": content, "refusal": "I cannot do that."}
    messages = [*ASKED, refused, {**refused, "content": "but this"}, {"role": "user", "content": "why?"}]
    assert sent(messages=messages)["contents"][1] == {
        "role": "model",
        "parts": [{"text": "I cannot do that."}, {"text": "but this"}],
    }


def test_ignored_names_what_has_no_place_when_it_was_given():
    """Fields that change nothing essential are named, sorted, unless they are null or the gateway's own."""
    fields = {
        "user": "u",
        "logit_bias": {},
        "store": None,
        "stream_options": {},
        "parallel_tool_calls": False,
    }
    messages = [{"role": "user", "content": "hi", "name": "bob"}]
    call = google().encode_chat(request(**fields, messages=messages), "m")
    assert call.ignored == ("logit_bias", "messages.name", "parallel_tool_calls", "user")
    assert google().encode_chat(request(parallel_tool_calls=True), "m").ignored == ()


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3.5-flash", "models/gemini-3.5-flash"),
        ("models/gemini-3.5-flash", "models/gemini-3.5-flash"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("../x?key=1#", "models/..%2Fx%3Fkey%3D1%23"),
        ("a\r\nb\ud800", "models/a%0D%0Ab%3F"),
    ],
)
def test_target_names_the_model_when_it_is_asked(model, path):
    """A model's name cannot leave its place in the path, and the key is never in it."""
    plain = google().encode_chat(request(), model).endpoint
    stream = google().encode_chat(request(stream=True), model).endpoint
    assert plain.target == f"/v1beta/{path}:generateContent"
    assert stream.target == f"/v1beta/{path}:streamGenerateContent?alt=sse"
    assert plain.headers == b"Content-Type: application/json\r\nx-goog-api-key: " + KEY.encode() + b"\r\n"
    assert KEY not in repr(plain) + plain.target


@pytest.mark.parametrize("key", ["a\r\nHost: x", "schlüssel", "a\0"])
def test_key_is_refused_when_it_could_not_be_a_header(key):
    """A key with a line break would be two header fields."""
    with pytest.raises(ValueError, match="characters") as caught:
        Google(Origin("https", "h", 443), "", key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"temperature": "hot"}, errors.RequestError, "temperature"),
        ({"n": 0}, errors.RequestError, "n"),
        ({"reasoning_effort": "much"}, errors.RequestError, "reasoning_effort"),
        ({"messages": [*ASKED, {"role": "user", "content": 5}]}, errors.RequestError, "messages[1].content"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, errors.RequestError, "messages[0].role"),
        ({"messages": [{"role": "system", "content": "x"}]}, errors.ProviderCapabilityError, "messages"),
        ({"reasoning": {"effort": "much"}}, errors.RequestError, "reasoning.effort"),
        ({"reasoning": {"max_tokens": -1}}, errors.RequestError, "reasoning.max_tokens"),
        ({"reasoning": "much"}, errors.RequestError, "reasoning"),
        ({"modalities": ["text", "audio"]}, errors.ProviderCapabilityError, "modalities"),
        ({"web_search_options": {}}, errors.ProviderCapabilityError, "web_search_options"),
        (
            {"messages": [{"role": "function", "content": "x"}]},
            errors.ProviderCapabilityError,
            "messages[0].role",
        ),
    ],
)
def test_request_is_refused_with_its_place_when_it_cannot_be_sent(fields, error, param):
    """Mistakes and impossible wishes name their place."""
    with pytest.raises(error) as caught:
        google().encode_chat(request(**fields), "m")
    assert (caught.value.status, caught.value.param) == (400, param)


@given(st.dictionaries(NAMES, JSON, max_size=4), MESSAGES | JSON, st.booleans(), st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_encode_raises_only_what_it_may_when_values_are_arbitrary(fields, messages, stream, model):
    """Any JSON in any field gives a body or one of two errors, twice the same, and changes no request."""
    asked = request(stream, **{"messages": messages, **fields})
    before = copy.copy(asked.fields)
    outcomes = []
    for _ in range(2):
        try:
            call = google().encode_chat(asked, model)
            outcomes.append((json.loads(call.body), call.ignored, call.endpoint.target))
        except (errors.RequestError, errors.ProviderCapabilityError) as error:
            outcomes.append((str(error), error.param))
    assert outcomes[0] == outcomes[1]
    assert asked.fields == before
