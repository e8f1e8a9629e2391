"""pydantic-ai through the gateway: tools, streams, structured output and embeddings, on every upstream."""

import asyncio

import pytest
from pydantic import BaseModel

from tests.clients.upstreams import CITY, WEATHER, asked, calls_tools, each_upstream, missing, says

pytestmark = pytest.mark.clients


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int
    tags: list[str]


@pytest.fixture(scope="module")
def pydantic_ai():
    return pytest.importorskip("pydantic_ai", reason=missing("pydantic-ai"))


@pytest.fixture
def model_of(pydantic_ai, running):
    """Makes the model object for an upstream."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return lambda name: OpenAIChatModel(name, provider=OpenAIProvider(base_url=running.v1, api_key="any"))


@each_upstream
def test_agent_gets_a_tools_result_when_the_model_calls_it(pydantic_ai, model_of, running, upstream):
    """The agent's function runs with the model's arguments, and its result reaches the model."""
    calls_tools(running)
    heard = []
    agent = pydantic_ai.Agent(model_of(upstream.chat))

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather in a city."""
        heard.append(city)
        return WEATHER

    result = agent.run_sync("What is the weather?")
    assert heard == [CITY]
    assert WEATHER in result.output
    assert result.usage.input_tokens > 0
    assert len(list(asked(running, upstream))) == 2


@each_upstream
def test_agent_gets_all_results_when_the_model_calls_in_parallel(pydantic_ai, model_of, running, upstream):
    """Two calls of one turn stay two calls, and each gets its own result."""
    calls_tools(running, 2)
    heard = []
    agent = pydantic_ai.Agent(model_of(upstream.chat))

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather in a city."""
        heard.append("weather")
        return WEATHER

    @agent.tool_plain
    def hour(zone: str) -> str:
        """The time in a zone."""
        heard.append("hour")
        return "noon"

    agent.run_sync("What is the weather, and the time?")
    assert sorted(heard) == ["hour", "weather"]
    last = str(list(asked(running, upstream))[-1])
    assert WEATHER in last
    assert "noon" in last


@each_upstream
def test_agent_streams_text_when_asked(pydantic_ai, model_of, running, upstream):
    """The text comes in pieces and is whole at the end, with its usage."""
    says(running, "one two three four")

    async def stream():
        agent = pydantic_ai.Agent(model_of(upstream.chat))
        async with agent.run_stream("Say something.") as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
            return pieces, result.usage

    pieces, usage = asyncio.run(stream())
    assert len(pieces) > 1
    assert "".join(pieces) == "one two three four"
    assert usage.output_tokens > 0


@each_upstream
def test_agent_streams_when_the_model_calls_a_tool_first(pydantic_ai, model_of, running, upstream):
    """Streamed calls are whole calls, and the second turn speaks."""
    calls_tools(running)

    async def stream():
        agent = pydantic_ai.Agent(model_of(upstream.chat))
        agent.tool_plain(_weather)
        async with agent.run_stream("What is the weather?") as result:
            return await result.get_output()

    assert WEATHER in asyncio.run(stream())


@pytest.mark.parametrize("way", ["ToolOutput", "NativeOutput", "PromptedOutput"])
@each_upstream
def test_agent_gets_an_object_when_it_wants_one(pydantic_ai, model_of, running, upstream, way):
    """By a forced tool, by a JSON schema and by the prompt alone, the output is the class that was asked for."""
    if way == "PromptedOutput":
        says(running, '{"name": "simulated", "age": 1, "tags": ["simulated"]}')
    elif way == "ToolOutput":
        calls_tools(running)
    agent = pydantic_ai.Agent(model_of(upstream.chat), output_type=getattr(pydantic_ai, way)(Person))
    assert agent.run_sync("Who is it?").output == Person(name="simulated", age=1, tags=["simulated"])


@each_upstream
def test_agent_streams_an_object_when_it_wants_one(pydantic_ai, model_of, running, upstream):
    """A streamed structured answer is validated as it grows."""

    async def stream():
        agent = pydantic_ai.Agent(model_of(upstream.chat), output_type=pydantic_ai.NativeOutput(Person))
        async with agent.run_stream("Who is it?") as result:
            return await result.get_output()

    assert asyncio.run(stream()).name == "simulated"


@each_upstream
def test_embedder_gets_vectors_when_asked(pydantic_ai, running, upstream):
    """Every text has its vector, in order, as floats."""
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=running.v1, api_key="any")
    embedder = pydantic_ai.Embedder(OpenAIEmbeddingModel(upstream.embed, provider=provider))
    result = embedder.embed_documents_sync(["a", "b", "a"])
    first, second, third = result.embeddings
    assert first == third != second
    assert len(first) >= 128


def _weather(city: str) -> str:
    """The weather in a city."""
    return WEATHER
