"""langchain-openai through the gateway: tools, streams, structured output and embeddings, on every upstream."""

import openai
import pytest
from pydantic import BaseModel

from tests.clients.upstreams import CITY, WEATHER, calls_tools, each_upstream, missing, says

pytestmark = pytest.mark.clients


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@pytest.fixture(scope="module")
def langchain():
    return pytest.importorskip("langchain_openai", reason=missing("langchain-openai"))


@pytest.fixture
def chat_of(langchain, running):
    """Makes a chat model for an upstream."""
    return lambda upstream: langchain.ChatOpenAI(
        model=upstream.chat, base_url=running.v1, api_key="any", max_retries=0, stream_usage=True
    )


@pytest.fixture
def embeddings_of(langchain, running):
    """Makes an embeddings model for an upstream."""
    return lambda upstream, **asked: langchain.OpenAIEmbeddings(
        model=upstream.embed, base_url=running.v1, api_key="any", max_retries=0, **asked
    )


def weather_tool():
    from langchain_core.tools import tool

    @tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return WEATHER

    return weather


@pytest.mark.parametrize("count", [1, 2])
@each_upstream
def test_tool_is_called_and_answered_when_bound(chat_of, running, upstream, count):
    """Calls come with parsed arguments, and the messages with their results are understood."""
    calls_tools(running, count)
    tool = weather_tool()
    model = chat_of(upstream).bind_tools([tool])
    said = model.invoke("What is the weather?")
    assert [(call["name"], call["args"]) for call in said.tool_calls] == [("weather", {"city": CITY})] * count
    assert len({call["id"] for call in said.tool_calls}) == count
    messages = [("user", "What is the weather?"), said, *(tool.invoke(call) for call in said.tool_calls)]
    assert WEATHER in model.invoke(messages).content


@pytest.mark.parametrize("choice", ["any", "weather"])
@each_upstream
def test_tool_is_called_when_the_choice_forces_it(chat_of, running, upstream, choice):
    """`any` (the client's word for required) and a tool's name are both honoured, or refused with a 400."""
    if upstream.name == "ollama":
        # The local server's API has no such field: a simulated model calls what it is told to.
        calls_tools(running)
    said = chat_of(upstream).bind_tools([weather_tool()], tool_choice=choice).invoke("Hello")
    assert [call["name"] for call in said.tool_calls] == ["weather"]


@each_upstream
def test_stream_adds_up_when_chunks_are_summed(chat_of, running, upstream):
    """Chunks add up to the text, and the last one carries the usage."""
    says(running, "one two three four")
    chunks = list(chat_of(upstream).stream("Say something."))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.text == "one two three four"
    assert whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] == "stop"


@each_upstream
def test_stream_adds_up_when_a_tool_is_called(chat_of, running, upstream):
    """Streamed calls in pieces become whole calls."""
    calls_tools(running, 2)
    chunks = list(chat_of(upstream).bind_tools([weather_tool()]).stream("What is the weather?"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("weather", {"city": CITY})] * 2


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@each_upstream
def test_object_comes_when_a_method_asks_for_it(chat_of, running, upstream, method):
    """By a schema, by a forced tool and by JSON mode, the answer is the class that was asked for."""
    if method == "json_mode":
        says(running, '{"name": "simulated", "age": 1}')
    elif method == "function_calling":
        calls_tools(running)
    model = chat_of(upstream).with_structured_output(Person, method=method)
    assert model.invoke("Who is it? Answer in JSON.") == Person(name="simulated", age=1)


@each_upstream
def test_object_grows_when_it_is_streamed(chat_of, upstream):
    """A streamed structured answer ends as the class."""
    model = chat_of(upstream).with_structured_output(Person, method="json_schema")
    assert list(model.stream("Who is it?"))[-1] == Person(name="simulated", age=1)


@each_upstream
def test_texts_are_embedded_when_they_are_sent_as_texts(embeddings_of, upstream):
    """With check_embedding_ctx_length=False texts are sent, and every upstream embeds them in order."""
    model = embeddings_of(upstream, check_embedding_ctx_length=False)
    first, second, third = model.embed_documents(["a", "b", "a"])
    assert first == third != second
    assert model.embed_query("a") == first


@each_upstream
def test_tokens_are_embedded_or_refused_when_the_client_sends_tokens(embeddings_of, upstream, bytes_as_tokens, running):
    """By default the client sends token ids: the cloud takes them, elsewhere a 400 names the client's switch."""
    model = embeddings_of(upstream)
    if upstream.name == "openai":
        assert len(model.embed_documents(["ab"])[0]) >= 128
        (sent,) = [entry.body["input"] for entry in running.simulator.log]
        assert sent == [[97, 98]]
        return
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        model.embed_documents(["ab"])


@pytest.fixture
def bytes_as_tokens(monkeypatch):
    """A tokenizer whose tokens are bytes: the real tables would have to be fetched."""
    tiktoken = pytest.importorskip("tiktoken", reason=missing("langchain-openai"))
    ranks = {bytes([value]): value for value in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=r"(?s:.)", mergeable_ranks=ranks, special_tokens={})
    for name in ("encoding_for_model", "get_encoding"):
        monkeypatch.setattr(tiktoken, name, lambda *_: encoding)
