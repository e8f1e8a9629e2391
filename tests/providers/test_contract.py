"""One contract for every provider there is, before simulators: rows, Ollama, Gemini, and a server of providers.yaml,
which is another mana-llm.
"""

import json

import msgspec
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mana_llm.cli.demo import pointed_at
from mana_llm.kit.vectors import floats_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.registry import entries
from mana_llm.providers.table import ROWS
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import GatewayError
from mana_llm.schema.wire import encode_json
from mana_llm.settings import CLOUDS, Settings
from mana_llm.simulator.flavours import FLAVOURS
from tests.world import world

HELLO = [{"role": "user", "content": "Hello"}]
CLOUD_NAMES = [row.name for row in ROWS]
NAMES = ["ollama", "google", "lab", *CLOUD_NAMES]
WITHOUT_EMBEDDINGS = [row.name for row in ROWS if row.quirks.embeddings is None]
WITH_EMBEDDINGS = [name for name in NAMES if name not in WITHOUT_EMBEDDINGS]
EMBEDDERS = {"ollama": "nomic-embed-text", "google": "gemini-embedding-001", "lab": "openai/text-embedding-3-small"}
# The other gateway names its models by provider.
BEHIND = {"lab": "openai/"}
LAB = "providers: {lab: {base_url: '%s', quirks: [max-tokens, takes-reasoning-content]}}\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """An openai client of a gateway whose clouds play the flavour of their name where there is one."""
    with world() as behind:
        root = behind.simulator.openai_url.removesuffix("/v1")
        urls = {
            f"{name}_base_url": f"{root}/{name}/v1" for name in CLOUD_NAMES if name in FLAVOURS and name != "openai"
        }
        file = tmp_path_factory.mktemp("contract") / "providers.yaml"
        file.write_text(LAB % behind.v1)
        with world(providers_path=str(file), **urls) as running:
            yield openai.OpenAI(base_url=running.v1, api_key="none", max_retries=0)


def model_of(name, model="gpt-4o-mini"):
    """The label that reaches `model` at a provider."""
    return f"{name}/{BEHIND.get(name, '')}{model}"


def everyone():
    """Every provider of an installation with all keys."""
    chosen = pointed_at(Settings(), "http://one.example", "http://two.example/v1", "http://three.example")
    return entries(chosen, "providers.yaml", LAB % "http://four.example/v1")


def test_every_provider_is_under_contract_when_one_is_added():
    """The suite runs over every entry of the registry, and every cloud has settings and a row."""
    assert set(everyone()) == set(NAMES)
    assert [name for name, *_ in CLOUDS] == CLOUD_NAMES
    assert all(row.source for row in ROWS)


@pytest.mark.parametrize("name", NAMES)
def test_plain_answer_has_text_finish_and_usage_when_any_provider_is_asked(client, name):
    """A whole answer names the resolved model and counts its tokens."""
    raw = client.chat.completions.with_raw_response.create(model=model_of(name), messages=HELLO)
    answer = raw.parse()
    assert raw.headers["x-mana-llm-resolved"] == answer.model == model_of(name)
    assert answer.choices[0].message.content.startswith("[simulated]")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@pytest.mark.parametrize("name", NAMES)
def test_stream_has_text_one_finish_and_one_usage_when_any_provider_is_asked(client, name):
    """A stream has one role, one finish and, if asked for, one last usage chunk without choices."""
    stream = client.chat.completions.create(
        model=model_of(name), messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices).startswith("[simulated]")
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert [choice.delta.role for choice in choices if choice.delta.role] == ["assistant"]
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0


@pytest.mark.parametrize("name", ["ollama", "google", "lab", "openai"])
def test_old_ceiling_is_taken_when_the_model_refuses_it(client, name):
    """A client that sends `max_tokens` moves between providers without knowing which of them has renamed it."""
    answer = client.chat.completions.create(model=model_of(name, "gpt-5.4-mini"), messages=HELLO, max_tokens=50)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("name", ["groq", "ollama", "google"])
def test_conversation_goes_on_when_another_provider_answered_before(client, name):
    """An answer of OpenAI's or ours goes back as the client keeps it, to whoever is asked next."""
    for first in ("openai", "ollama"):
        said = client.chat.completions.create(model=model_of(first), messages=HELLO).choices[0].message
        messages = [*HELLO, said.model_dump(exclude_unset=True), *HELLO]
        assert client.chat.completions.create(model=model_of(name), messages=messages).choices[0].message.content


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("sim.status.code-401", 502, "provider_auth"),
        ("sim.status.code-429", 429, "rate_limit_exceeded"),
        ("sim.status.code-503", 503, "no_healthy_provider"),
        ("sim.html", 503, "no_healthy_provider"),
    ],
)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "lab"])
def test_error_has_its_class_when_any_provider_fails(name, fault, status, code):
    """A refused key, a limit, a failure and a page of HTML mean the same whoever says them."""
    # A gateway of its own: failures rest a provider.
    with world() as running:
        client = openai.OpenAI(base_url=running.v1, api_key="none", max_retries=0)
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model=f"{name}/{fault}", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (status, code)


@pytest.mark.parametrize("name", NAMES)
def test_models_are_listed_when_any_provider_lists_them(client, name):
    """Every provider's models are in the list, under its name."""
    assert any(model.id.startswith(f"{name}/") for model in client.models.list())


@pytest.mark.parametrize("name", WITH_EMBEDDINGS)
@pytest.mark.parametrize("given", ["Hello", ["Hello"], ["one", "two", "three"]], ids=["text", "list of one", "list"])
def test_embeddings_come_when_the_client_asks_in_its_own_way(client, name, given):
    """The openai client asks for base64 by itself and gets its floats, one vector per input, in order, and usage."""
    model = f"{name}/{EMBEDDERS.get(name, 'text-embedding-3-small')}"
    raw = client.embeddings.with_raw_response.create(model=model, input=given)
    answer = raw.parse()
    assert raw.headers["x-mana-llm-resolved"] == answer.model == model
    assert [row.index for row in answer.data] == list(range(1 if isinstance(given, str) else len(given)))
    assert all(isinstance(row.embedding[0], float) for row in answer.data)
    assert answer.usage.prompt_tokens > 0
    single = client.embeddings.create(model=model, input="Hello").data[0].embedding
    assert (given == ["one", "two", "three"]) is (single != answer.data[0].embedding)


@pytest.mark.parametrize("name", WITH_EMBEDDINGS)
def test_embeddings_are_the_same_when_they_are_asked_for_as_floats_or_base64(client, name):
    """Both forms hold the same numbers, as 32-bit floats."""
    model = f"{name}/{EMBEDDERS.get(name, 'text-embedding-3-small')}"
    body = {"model": model, "input": ["Hello"]}
    forms = [
        client.post("/embeddings", body={**body, "encoding_format": form}, cast_to=object)["data"][0]["embedding"]
        for form in ("float", "base64")
    ]
    assert floats_of(forms[1]) == pytest.approx(forms[0], rel=1e-6)


@pytest.mark.parametrize("name", WITHOUT_EMBEDDINGS)
def test_embeddings_are_refused_when_the_provider_has_none(client, name):
    """A provider without embeddings says so, and nothing is sent."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=f"{name}/any", input="Hello")
    assert caught.value.code == "provider_capability"


TEXTS = st.text(max_size=20)
EXTRA = st.none() | st.fixed_dictionaries({"google": st.fixed_dictionaries({"thought_signature": st.just("c2ln")})})
CALLS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["call_a", "call_b"]),
        "type": st.just("function"),
        "function": st.just({"name": "f", "arguments": "{}"}),
    },
    optional={"extra_content": EXTRA},
)
ASSISTANTS = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": TEXTS},
    optional={
        "reasoning": TEXTS | st.none(),
        "reasoning_content": TEXTS | st.none(),
        "extra_content": EXTRA,
        "name": TEXTS | st.none(),
        "refusal": TEXTS | st.none(),
        "annotations": st.just([]),
        "tool_calls": st.lists(CALLS, min_size=1, max_size=2),
    },
)
USERS = st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS}, optional={"name": TEXTS})
REQUESTS = st.fixed_dictionaries(
    {"messages": st.lists(USERS | ASSISTANTS, min_size=1, max_size=4)},
    optional={
        "max_completion_tokens": st.integers(1, 99) | st.none(),
        "max_tokens": st.integers(1, 99),
        "seed": st.integers(0, 99),
        "user": TEXTS,
        "store": st.booleans(),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 5),
        "logit_bias": st.just({"5": -100}),
        "tool_choice": st.sampled_from(["none", "auto", "required"]),
        "tools": st.just([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]),
        "stream_options": st.just({"include_usage": True}),
        "response_format": st.just({"type": "json_object"}),
        "reasoning_effort": st.sampled_from(["low", "high"]),
        "unheard_of": st.integers(),
    },
)


THOUGHTFUL = encode_json(
    {
        "id": "c",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {"reasoning_content": "hm", "tool_calls": [{"id": "call_a", "type": "function"}]},
            }
        ],
    }
)


def encoded(provider, request):
    """The call's body and what it ignores, or the error that was raised instead."""
    try:
        call = provider.encode_chat(request, "model")
    except GatewayError as error:
        return type(error), error.message
    return call.body, call.ignored


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=REQUESTS, stream=st.booleans())
def test_request_stays_as_it_came_when_any_provider_encodes_it(name, fields, stream):
    """Two attempts see the same bytes: encoding changes nothing of the request and gives the same again."""
    raw = {member: msgspec.Raw(encode_json(value)) for member, value in fields.items()}
    request = ChatRequest(raw, "m", stream=stream, include_usage=False)
    before = {member: bytes(value) for member, value in raw.items()}
    # Every provider has reasoning to give back, if it is one that does.
    provider = everyone()[name].provider
    if isinstance(provider, Compatible):
        provider.decode_chat(THOUGHTFUL, request)
    assert encoded(provider, request) == encoded(provider, request)
    assert {member: bytes(value) for member, value in request.fields.items()} == before
    assert list(request.fields) == list(before)


@pytest.mark.parametrize("name", WITH_EMBEDDINGS)
def test_embeddings_request_stays_as_it_came_when_any_provider_encodes_it(name):
    """Encoding twice gives the same calls, all inputs are in them, and the request is untouched."""
    texts = [f"text {at}" for at in range(600)]
    fields = {"model": msgspec.Raw(b'"m"'), "input": msgspec.Raw(encode_json(texts)), "user": msgspec.Raw(b'"me"')}
    request = EmbeddingsRequest(fields, "m", texts, len(texts), "base64", 64)
    before = {member: bytes(value) for member, value in fields.items()}
    provider = everyone()[name].provider
    bodies = [call.body for call in provider.encode_embeddings(request, "model")]
    assert bodies == [call.body for call in provider.encode_embeddings(request, "model")]
    assert {member: bytes(value) for member, value in request.fields.items()} == before
    sent = "".join(json.dumps(json.loads(body)) for body in bodies)
    assert all(f'"{text}"' in sent for text in texts)
