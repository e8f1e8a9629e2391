"""The official openai client, unmodified, against the real server on a socket."""

import asyncio

import openai
import pytest

from mana_llm.settings import Secret
from tests.caller import body_for, call
from tests.world import gateway, world

MODELS = ("openai/gpt-4o-mini", "openrouter/gpt-4o-mini", "groq/openai/gpt-oss-20b", "together/meta/llama",
          "ollama/gemma3:4b", "google/gemini-3.5-flash-lite", "mana/fast-text")  # fmt: skip
HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]
OF_EVERY_KIND = pytest.mark.parametrize("model", MODELS)


def client(url: str, **options: object) -> openai.OpenAI:
    return openai.OpenAI(**{"base_url": url, "api_key": "none", "max_retries": 0, **options})


def asynchronous(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)


def resolved(model: str) -> str:
    return "ollama/gemma3:4b" if model.startswith("mana/") else model


def assert_answer(answer, model: str) -> None:
    assert answer.model == resolved(model)
    assert answer.object == "chat.completion"
    assert answer.id
    assert answer.created > 1_000_000_000
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content.startswith("[simulated]")
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def assert_stream(chunks, model: str, *, include_usage: bool) -> None:
    last = chunks[-1]
    assert {(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks} == {
        (last.id, last.created, resolved(model), "chat.completion.chunk")
    }
    spoken = [chunk for chunk in chunks if chunk.choices]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in spoken)
    assert text.startswith("[simulated]")
    assert text.endswith("Hello")
    roles = [chunk.choices[0].delta.role for chunk in spoken]
    assert roles == ["assistant"] + [None] * (len(spoken) - 1)
    finishes = [chunk.choices[0].finish_reason for chunk in spoken]
    assert finishes == [None] * (len(spoken) - 1) + ["stop"]
    told = [chunk for chunk in chunks if chunk.usage]
    assert len(told) == int(include_usage)
    if include_usage:
        assert told == [last]
        assert last.choices == []
        assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 0
    else:
        assert spoken == chunks


@OF_EVERY_KIND
def test_client_gets_an_answer_when_plain(model: str) -> None:
    """The sync client gets text, finish, usage and the resolved model from every kind of provider."""
    with world() as running:
        raw = client(running.v1).chat.completions.with_raw_response.create(model=model, messages=HELLO)
    assert_answer(raw.parse(), model)
    assert raw.headers["x-mana-llm-resolved"] == resolved(model)
    assert raw.headers["x-mana-llm-attempts"] == "1"
    assert raw.headers["x-mana-llm-config"] == running.application.aliases.version
    assert raw.headers["x-mana-llm-cache"] == "off"
    assert raw.headers["x-request-id"]
    assert "x-mana-llm-ignored" not in raw.headers


@OF_EVERY_KIND
@pytest.mark.parametrize("include_usage", [True, False])
def test_client_gets_chunks_when_it_streams(model: str, include_usage: bool) -> None:
    """The sync client gets one role, one finish, one text, and usage once if it asked for it."""
    with world() as running:
        options = {"stream_options": {"include_usage": include_usage}} if include_usage else {}
        raw = client(running.v1).chat.completions.with_raw_response.create(
            model=model, messages=HELLO, stream=True, **options
        )
        assert_stream(list(raw.parse()), model, include_usage=include_usage)
    assert raw.headers["x-mana-llm-resolved"] == resolved(model)
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert raw.headers["cache-control"] == "no-cache"
    assert raw.headers["x-request-id"]


@OF_EVERY_KIND
def test_asynchronous_client_gets_the_same_when_it_asks(model: str) -> None:
    """The async client, plain and streamed, side by side."""

    async def main() -> None:
        async with gateway() as running, asynchronous(running.v1) as asking:
            create = asking.chat.completions.create
            usage = {"include_usage": True}
            plain, stream = await asyncio.gather(
                create(model=model, messages=HELLO),
                create(model=model, messages=HELLO, stream=True, stream_options=usage),
            )
            assert_answer(plain, model)
            assert_stream([chunk async for chunk in stream], model, include_usage=True)

    asyncio.run(main())


@pytest.mark.parametrize("model", ["openai/sim.tools", "groq/sim.tools", "openrouter/sim.tools.calls-2"])
@pytest.mark.parametrize("stream", [False, True])
def test_client_gets_tool_calls_when_the_model_makes_them(model: str, stream: bool) -> None:
    """Calls arrive with id, name and JSON arguments, and the finish says so."""
    with world() as running:
        create = client(running.v1).chat.completions.create
        if stream:
            with client(running.v1).chat.completions.stream(model=model, messages=HELLO, tools=TOOLS) as events:
                choice = events.get_final_completion().choices[0]
        else:
            choice = create(model=model, messages=HELLO, tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in choice.message.tool_calls] == ["weather"] * (2 if "calls-2" in model else 1)
    assert len({call.id for call in choice.message.tool_calls}) == len(choice.message.tool_calls)
    assert all(call.function.arguments == '{"city":"simulated"}' for call in choice.message.tool_calls)


FAILURES = [
    ("openai/sim.status.code-400", openai.BadRequestError, 400, None),
    ("openai/sim.status.code-404", openai.NotFoundError, 404, "model_not_found"),
    ("mana/unknown", openai.NotFoundError, 404, "model_not_found"),
    ("google/sim.filter", openai.UnprocessableEntityError, 422, "content_filter"),
    ("openai/sim.status.code-429.retry-9", openai.RateLimitError, 429, "rate_limit_exceeded"),
    ("openai/sim.status.code-429.reason-quota", openai.RateLimitError, 429, "insufficient_quota"),
    ("openai/sim.status.code-401", openai.InternalServerError, 502, "provider_auth"),
    ("google/sim.length", openai.InternalServerError, 502, "provider_truncated"),
    ("openai/sim.status.code-500", openai.InternalServerError, 503, "no_healthy_provider"),
    ("openai/sim.cut.after-0", openai.InternalServerError, 503, "no_healthy_provider"),
]


@pytest.mark.parametrize(("model", "kind", "status", "code"), FAILURES)
@pytest.mark.parametrize("stream", [False, True])
def test_client_raises_its_own_error_when_the_answer_is_one(model, kind, status, code, stream) -> None:
    """Each status is the client's own exception with code, request id and, where a chain was walked, attempts."""
    with world() as running, pytest.raises(kind) as caught:
        client(running.v1).chat.completions.create(model=model, messages=HELLO, stream=stream)
    error = caught.value
    assert type(error) is kind
    assert (error.status_code, error.code) == (status, code)
    assert error.request_id
    assert error.body["message"]
    assert set(error.body) >= {"message", "type", "param", "code"}
    if status == 503:
        assert error.body["attempts"][0]["model"] == model
        assert error.response.headers["x-should-retry"] == "false"
    if "retry-9" in model:
        assert error.response.headers["retry-after"] == "9"


def test_client_raises_authentication_error_when_the_key_is_wrong() -> None:
    """A wrong caller key is AuthenticationError with OpenAI's code; the right one is served."""
    with world(gpu_api_key=Secret("right")) as running:
        with pytest.raises(openai.AuthenticationError) as caught:
            client(running.v1).models.list()
        assert caught.value.code == "invalid_api_key"
        answer = client(running.v1, api_key="right").chat.completions.create(model="openai/any", messages=HELLO)
        assert answer.choices


def test_client_raises_status_error_when_the_body_is_not_json() -> None:
    """Another media type is a 415, which the client raises as APIStatusError."""
    with world() as running:
        asking = client(running.v1, default_headers={"Content-Type": "text/plain"})
        with pytest.raises(openai.APIStatusError) as caught:
            asking.chat.completions.create(model="openai/any", messages=HELLO)
    assert (caught.value.status_code, caught.value.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize("fields", [{"messages": []}, {"messages": "no"}, {"messages": HELLO, "stream": "yes"}])
def test_client_raises_bad_request_when_the_request_is_wrong(fields) -> None:
    """What cannot be a request is BadRequestError, and `param` names the place."""
    with world() as running, pytest.raises(openai.BadRequestError) as caught:
        client(running.v1).chat.completions.create(**{"model": "openai/any", **fields})
    assert caught.value.param in fields


@pytest.mark.parametrize("model", ["openai/sim.cut.after-2", "ollama/sim.error.after-2", "google/sim.cut.after-2"])
def test_client_raises_api_error_when_a_stream_breaks(model: str) -> None:
    """After the first chunks came, a broken stream raises APIError; it never just ends."""
    with world() as running:
        stream = client(running.v1).chat.completions.create(model=model, messages=HELLO, stream=True)
        chunks = []
        with pytest.raises(openai.APIError) as caught:
            chunks.extend(stream)
    assert type(caught.value) is openai.APIError
    assert caught.value.code.startswith("provider_")


def test_client_retries_nothing_when_the_gateway_has_walked_the_chain() -> None:
    """The client's own retries are off by x-should-retry: an outage is asked for once."""
    with world() as running:
        asking = client(running.v1, max_retries=2)
        with pytest.raises(openai.InternalServerError):
            asking.chat.completions.create(model="openai/sim.status.code-500", messages=HELLO)
        assert sum(entry.method == "POST" for entry in running.simulator.log) == 1


def test_ignored_fields_are_named_when_a_provider_has_no_place_for_them() -> None:
    """A field that a translated provider cannot carry is named, sorted, and an odd name is a question mark."""
    with world() as running:
        raw = client(running.v1).chat.completions.with_raw_response.create(
            model="ollama/gemma3:4b", messages=HELLO, user="me", extra_body={"zeta": 1, "a b\r\n": 2}
        )
    assert raw.headers["x-mana-llm-ignored"] == "?, user, zeta"


def test_request_id_is_the_clients_when_it_is_sane() -> None:
    """A client's own X-Request-Id comes back; an odd one is replaced."""

    async def main() -> None:
        async with gateway() as running:
            head, body = "POST /v1/chat/completions", body_for("openai/any")
            own = await call(running.port, head, body, {"X-Request-Id": "mine-1"})
            odd = await call(running.port, head, body, {"X-Request-Id": "a b"})
            assert own.headers["x-request-id"] == "mine-1"
            assert odd.headers["x-request-id"].startswith("req-")

    asyncio.run(main())


def test_models_are_listed_and_found_when_the_client_asks() -> None:
    """The list has aliases first, then every provider's models; each is found by its id."""
    with world() as running:
        asking = client(running.v1)
        found = list(asking.models.list())
        names = [model.id for model in found]
        assert names[0] == "mana/fast-text"
        assert {name.partition("/")[0] for name in names} == {"mana", *running.application.entries}
        assert all(model.object == "model" and isinstance(model.created, int) for model in found)
        assert {model.owned_by for model in found if model.id.startswith("google/")} == {"google"}
        for name in names:
            assert asking.models.retrieve(name).id == name
        with pytest.raises(openai.NotFoundError):
            asking.models.retrieve("openai/nothing-like-it")


def test_entry_is_unconfigured_when_a_provider_has_no_key() -> None:
    """An entry without its key is skipped with what would configure it; a chain of such is a 503."""
    with world(groq_api_key=Secret("")) as running, pytest.raises(openai.InternalServerError) as caught:
        client(running.v1).chat.completions.create(model="groq/any", messages=HELLO)
    (attempt,) = caught.value.body["attempts"]
    assert attempt == {"model": "groq/any", "reason": "unconfigured", "detail": "set GROQ_API_KEY"}
