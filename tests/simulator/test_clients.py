import pytest

from tests.simulator.raw import run

openai = pytest.importorskip("openai", reason="the official OpenAI client is not installed")
ollama = pytest.importorskip("ollama", reason="the official Ollama client is not installed")
genai = pytest.importorskip("google.genai", reason="the official Google client is not installed")
pytestmark = pytest.mark.clients

HELLO = [{"role": "user", "content": "hello there"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def openai_client(simulator, **more):
    """OpenAI's own client, without retries."""
    return openai.AsyncOpenAI(**{"base_url": simulator.openai_url, "api_key": "key", "max_retries": 0} | more)


def google_client(simulator):
    """Google's own client, under each of its path versions."""
    options = genai.types.HttpOptions(base_url=simulator.google_url, api_version="v1beta")
    return genai.Client(api_key="key", http_options=options).aio


def test_openai_client_gets_text_when_plain_and_streamed():
    """The OpenAI client reads the same text and usage whole and in chunks."""

    async def check(simulator):
        client = openai_client(simulator)
        whole = await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert whole.choices[0].message.content == text == "[simulated] gpt-4o-mini heard: hello there"
        assert chunks[-1].usage == whole.usage
        assert whole.usage.total_tokens == 14

    run(check)


def test_openai_client_accumulates_calls_when_tools_are_used():
    """The OpenAI client's own accumulator joins the fragments of two calls."""

    async def check(simulator):
        client = openai_client(simulator)
        async with client.chat.completions.stream(model="sim.tools.calls-2", messages=HELLO, tools=[TOOL]) as stream:
            final = await stream.get_final_completion()
        whole = await client.chat.completions.create(model="sim.tools", messages=HELLO, tools=[TOOL])
        calls = final.choices[0].message.tool_calls + whole.choices[0].message.tool_calls
        assert [call.function.arguments for call in calls] == ['{"city":"simulated"}'] * 3
        assert whole.choices[0].finish_reason == "tool_calls"

    run(check)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("sim.status.code-400", "BadRequestError"),
        ("sim.status.code-401", "AuthenticationError"),
        ("sim.status.code-403", "PermissionDeniedError"),
        ("missing", "NotFoundError"),
        ("sim.status.code-429", "RateLimitError"),
        ("sim.status.code-503", "InternalServerError"),
        ("sim.cut.after-0.how-rst", "APIConnectionError"),
        ("sim.error.after-2", "APIError"),
    ],
)
def test_openai_client_raises_its_error_when_the_fault_is_scripted(name, error):
    """Each fault arrives as the OpenAI client's own class of error."""

    async def check(simulator):
        client = openai_client(simulator)
        stream = name.startswith("sim.error")

        async def ask():
            answer = await client.chat.completions.create(model=name, messages=HELLO, stream=stream)
            return [chunk async for chunk in answer] if stream else answer

        with pytest.raises(getattr(openai, error)) as caught:
            await ask()
        assert type(caught.value).__name__ == error

    run(check)


def test_openai_client_lists_and_embeds_when_asked():
    """The OpenAI client reads the list, one model, and (by its default) base64 embeddings."""

    async def check(simulator):
        client = openai_client(simulator)
        names = [model.id async for model in client.models.list()]
        assert "openai/gpt-oss-20b" in names
        assert (await client.models.retrieve("openai/gpt-oss-20b")).id == "openai/gpt-oss-20b"
        made = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        assert [len(one.embedding) for one in made.data] == [1536, 1536]

    run(check)


@pytest.mark.parametrize("prefix", ["openai", "api", "together", "deepseek", "vllm"])
def test_openai_client_reads_every_flavour_when_its_prefix_is_the_base(prefix):
    """The OpenAI client reads the streams of all imitators."""

    async def check(simulator):
        client = openai_client(simulator, base_url=f"{simulator.url}/{prefix}/v1")
        options = {"include_usage": True}
        stream = await client.chat.completions.create(
            model="qwen3", messages=HELLO, stream=True, stream_options=options
        )
        chunks = [chunk async for chunk in stream]
        assert any(chunk.usage for chunk in chunks)
        thoughts = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert any("reasoning" in field for delta in thoughts for field in delta.model_extra or ())

    run(check)


def test_ollama_client_gets_text_when_plain_and_streamed():
    """The Ollama client reads the same text whole and in lines, thinking apart."""

    async def check(simulator):
        client = ollama.AsyncClient(host=simulator.ollama_url)
        whole = await client.chat("qwen3:8b", messages=HELLO)
        lines = [line async for line in await client.chat("qwen3:8b", messages=HELLO, stream=True)]
        assert whole.message.content == "".join(line.message.content or "" for line in lines)
        assert whole.message.thinking == "".join(line.message.thinking or "" for line in lines)
        assert (lines[-1].done_reason, lines[-1].eval_count) == ("stop", whole.eval_count)

    run(check)


def test_ollama_client_gets_calls_when_tools_are_used():
    """The Ollama client reads whole calls with objects."""

    async def check(simulator):
        client = ollama.AsyncClient(host=simulator.ollama_url)
        answer = await client.chat("sim.tools", messages=HELLO, tools=[TOOL])
        assert answer.message.tool_calls[0].function.arguments == {"city": "simulated"}

    run(check)


@pytest.mark.parametrize(
    ("name", "status"), [("missing", 404), ("sim.status.code-503", 503), ("sim.error.after-1.code-500", -1)]
)
def test_ollama_client_raises_when_the_fault_is_scripted(name, status):
    """Refusals and errors in the stream arrive as the Ollama client's ResponseError."""

    async def check(simulator):
        client = ollama.AsyncClient(host=simulator.ollama_url)
        with pytest.raises(ollama.ResponseError) as caught:
            [line async for line in await client.chat(name, messages=HELLO, stream=True)]
        assert caught.value.status_code == status

    run(check)


def test_ollama_client_reads_the_other_endpoints_when_asked():
    """List, show, ps and embed are what the Ollama client expects."""

    async def check(simulator):
        client = ollama.AsyncClient(host=simulator.ollama_url)
        assert "gemma3:4b" in [model.model for model in (await client.list()).models]
        shown = await client.show("qwen3:8b")
        assert shown.capabilities == ["completion", "tools", "thinking"]
        assert shown.modelinfo["qwen3.context_length"] == 40_960
        assert (await client.ps()).models[0].context_length == 4096
        assert len((await client.embed("nomic-embed-text", input=["a", "b"])).embeddings) == 2

    run(check)


def test_google_client_gets_text_when_plain_and_streamed():
    """Google's client reads the same text whole and in events."""

    async def check(simulator):
        client = google_client(simulator)
        whole = await client.models.generate_content(model="gemini-3.5-flash-lite", contents="hello")
        stream = await client.models.generate_content_stream(model="gemini-3.5-flash-lite", contents="hello")
        chunks = [chunk async for chunk in stream]
        assert whole.text == "".join(chunk.text or "" for chunk in chunks)
        assert whole.usage_metadata.total_token_count == chunks[-1].usage_metadata.total_token_count
        assert chunks[-1].candidates[0].finish_reason == "STOP"

    run(check)


def test_google_client_gets_calls_when_tools_are_used():
    """Google's client reads function calls and may send them back with their results."""
    types = genai.types
    declared = types.FunctionDeclaration(name="weather", parameters_json_schema={"type": "object"})
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])

    async def check(simulator):
        client = google_client(simulator)
        answer = await client.models.generate_content(model="sim.tools", contents="hi", config=config)
        call = answer.function_calls[0]
        result = types.Part.from_function_response(name=call.name, response={"output": "sunny"})
        history = [types.UserContent("hi"), answer.candidates[0].content, types.UserContent([result])]
        final = await client.models.generate_content(model="sim.tools", contents=history, config=config)
        assert "sunny" in final.text

    run(check)


@pytest.mark.parametrize(
    ("name", "error", "code"),
    [
        ("missing", "ClientError", 404),
        ("sim.status.code-429.retry-5", "ClientError", 429),
        ("sim.status.code-503", "ServerError", 503),
    ],
)
def test_google_client_raises_when_the_fault_is_scripted(name, error, code):
    """Refusals arrive as the Google client's own classes of error."""

    async def check(simulator):
        client = google_client(simulator)
        with pytest.raises(getattr(genai.errors, error)) as caught:
            await client.models.generate_content(model=name, contents="hello")
        assert caught.value.code == code

    run(check)


def test_google_client_reads_the_other_methods_when_asked():
    """Models, one model, tokens and embeddings are what Google's client expects."""

    async def check(simulator):
        client = google_client(simulator)
        names = [model.name async for model in await client.models.list()]
        assert "models/gemini-3.5-flash-lite" in names
        assert (await client.models.get(model="gemini-3.5-flash-lite")).output_token_limit == 65_536
        counted = await client.models.count_tokens(model="gemini-3.5-flash-lite", contents="hello")
        assert counted.total_tokens == 2
        made = await client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"])
        assert [len(one.values) for one in made.embeddings] == [3072, 3072]

    run(check)
