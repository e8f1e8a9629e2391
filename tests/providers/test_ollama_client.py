"""The official Ollama client as oracle: for the same conversation it sends what we send."""

import base64
import json

import pytest

from mana_llm.schema.embeddings import EmbeddingsRequest
from tests.providers.ollama_world import WEATHER, called, ollama, sent
from tests.simulator.raw import run

client = pytest.importorskip("ollama", reason="the official Ollama client is not installed")
pytestmark = pytest.mark.clients

PNG = b"\x89PNG\r\n\x1a\n"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
CALL = {"name": "weather", "arguments": {"city": "Oslo"}}


def plain(body):
    """What a body means: ids and empty members mean nothing to Ollama, which goes by names."""
    if isinstance(body, dict):
        members = {name: plain(value) for name, value in body.items() if name not in ("id", "tool_call_id")}
        return {name: value for name, value in members.items() if value not in (None, "", [], {})}
    return [plain(each) for each in body] if isinstance(body, list) else body


def theirs(**asked):
    """The body that the official client sends for the same."""
    bodies = []

    async def ask(simulator):
        answer = await client.AsyncClient(host=simulator.ollama_url).chat(**asked)
        if asked.get("stream"):
            _ = [part async for part in answer]
        bodies.extend(entry.body for entry in simulator.log if entry.path == "/api/chat")

    run(ask)
    return bodies[-1]


def user(*parts):
    return {"role": "user", "content": list(parts)}


TOOL_MESSAGES = (
    [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [{"function": CALL}]},
        {"role": "tool", "tool_name": "weather", "content": "rain"},
    ],
    [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ],
)
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
CASES = {
    "text": ({"messages": [{"role": "user", "content": "hi"}]}, {"messages": [{"role": "user", "content": "hi"}]}),
    "tools": (
        {"messages": TOOL_MESSAGES[0], "tools": [WEATHER]},
        {"messages": TOOL_MESSAGES[1], "tools": [WEATHER], "tool_choice": "auto"},
    ),
    "images": (
        {"messages": [{"role": "user", "content": "see", "images": [PNG]}]},
        {"messages": [user({"type": "text", "text": "see"}, PICTURE)]},
    ),
    "schema": (
        {"messages": [{"role": "user", "content": "hi"}], "format": SCHEMA},
        {
            "messages": [{"role": "user", "content": "hi"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        },
    ),
    "json": (
        {"messages": [{"role": "user", "content": "hi"}], "format": "json", "options": {"temperature": 0, "seed": 7}},
        {
            "messages": [{"role": "user", "content": "hi"}],
            "response_format": {"type": "json_object"},
            "temperature": 0,
            "seed": 7,
        },
    ),
    "think": (
        {"messages": [{"role": "user", "content": "hi"}], "think": "low", "options": {"num_predict": 99}},
        {"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "low", "max_tokens": 99},
    ),
    "no-think": (
        {"messages": [{"role": "user", "content": "hi"}], "think": False, "options": {"stop": ["x"]}},
        {"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "none", "stop": "x"},
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_body_means_the_same_when_the_official_client_asks(name, stream):
    """Tools, images, formats, thinking and options of one conversation are the same in both bodies."""
    native, openai = CASES[name]
    ours = sent("qwen3:8b", **openai, stream=stream)
    assert plain(ours) == plain(theirs(model="qwen3:8b", stream=stream, **native))
    assert called("qwen3:8b", **openai).ignored == ()


def test_embeddings_are_asked_the_same_when_the_official_client_asks():
    """The body of /api/embed is the official client's."""
    bodies = []

    async def ask(simulator):
        await client.AsyncClient(host=simulator.ollama_url).embed(model="m", input=["a", "b"], dimensions=3)
        bodies.append(simulator.log[-1].body)

    run(ask)
    (call,) = ollama().encode_embeddings(EmbeddingsRequest({}, "", ["a", "b"], 2, "float", 3), "m")
    assert plain(bodies[0]) == plain(json.loads(call.body))
