"""litellm as a client of the gateway: tools, streams, structured output and embeddings, on every upstream."""

import json

import pytest
from pydantic import BaseModel

from tests.clients.upstreams import CITY, WEATHER, asked, calls_tools, each_upstream, missing, says

pytestmark = pytest.mark.clients

QUESTION = [{"role": "user", "content": "What is the weather?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture(scope="module")
def litellm():
    with pytest.MonkeyPatch.context() as patch:
        # Otherwise importing it fetches its table of prices.
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        return pytest.importorskip("litellm", reason=missing("litellm"))


@pytest.fixture(params=["openai", "litellm_proxy"])
def ask(request, litellm, running):
    """Asks for a completion, under either prefix that the client has for servers like ours."""

    def completion(model: str, **fields):
        return litellm.completion(
            model=f"{request.param}/{model}", api_base=running.v1, api_key="any", num_retries=0, **fields
        )

    return completion


@pytest.mark.parametrize("count", [1, 2])
@each_upstream
def test_tool_is_called_and_answered_when_offered(ask, running, upstream, count):
    """Calls come with arguments as JSON text, and their results are understood."""
    calls_tools(running, count)
    said = ask(upstream.chat, messages=QUESTION, tools=[TOOL]).choices[0]
    assert said.finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in said.message.tool_calls] == [{"city": CITY}] * count
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"{WEATHER} {index}"}
        for index, call in enumerate(said.message.tool_calls)
    ]
    answer = ask(upstream.chat, messages=[*QUESTION, said.message, *results], tools=[TOOL])
    assert f"{WEATHER} {count - 1}" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens > 0


@each_upstream
def test_stream_is_rebuilt_when_it_ends(ask, litellm, running, upstream):
    """The client builds the whole answer out of the chunks, with the upstream's usage."""
    says(running, "one two three four")
    chunks = list(ask(upstream.chat, messages=QUESTION, stream=True, stream_options={"include_usage": True}))
    whole = litellm.stream_chunk_builder(chunks, messages=QUESTION)
    assert whole.choices[0].message.content == "one two three four"
    assert whole.usage.completion_tokens > 0


@each_upstream
def test_stream_is_rebuilt_when_tools_are_called(ask, litellm, running, upstream):
    """Streamed calls are rebuilt whole, each with an id of its own."""
    calls_tools(running, 2)
    whole = litellm.stream_chunk_builder(list(ask(upstream.chat, messages=QUESTION, tools=[TOOL], stream=True)))
    calls = whole.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": CITY}] * 2
    assert len({call.id for call in calls}) == 2


@each_upstream
def test_object_comes_when_a_class_is_the_format(ask, running, upstream):
    """A class as response_format becomes a schema upstream, and the text is that object."""
    said = ask(upstream.chat, messages=QUESTION, response_format=Person).choices[0].message.content
    assert Person.model_validate_json(said) == Person(name="simulated", age=1)


@each_upstream
def test_object_comes_when_json_is_the_format(ask, upstream):
    """JSON mode gives an object."""
    said = ask(upstream.chat, messages=QUESTION, response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(said), dict)


@each_upstream
def test_request_is_served_when_it_has_fields_that_nobody_knows(ask, running, upstream):
    """What the client adds of its own never makes the gateway refuse."""
    answer = ask(upstream.chat, messages=QUESTION, user="me", metadata={"a": "b"}, extra_body={"zeta": 1})
    assert answer.choices[0].message.content
    assert len(list(asked(running, upstream))) == 1


@pytest.mark.parametrize("prefix", ["openai", "litellm_proxy"])
@each_upstream
def test_embeddings_come_when_asked(litellm, running, upstream, prefix):
    """Every text has its vector, in order, as floats, and the tokens are counted."""
    found = litellm.embedding(
        model=f"{prefix}/{upstream.embed}", input=["a", "b", "a"], api_base=running.v1, api_key="any"
    )
    first, second, third = (row["embedding"] for row in found.data)
    assert first == third != second
    assert all(isinstance(value, float) for value in first)
    assert found.usage.prompt_tokens > 0
