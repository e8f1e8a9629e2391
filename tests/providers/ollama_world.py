"""What the tests of the Ollama provider share: the provider, requests for it, and lines of its answers."""

import json

import msgspec

from mana_llm.providers.ollama import Ollama
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import Origin

ASKED = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def ollama():
    return Ollama(Origin("http", "localhost", 11434))


def request(stream=False, **fields):
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in {"messages": ASKED, **fields}.items()}
    return ChatRequest(raw, "", stream, include_usage=False)


def called(model="m", **fields):
    return ollama().encode_chat(request(**fields), model)


def sent(model="m", **fields):
    return json.loads(called(model, **fields).body)


def line(done=False, **members):
    head = {"model": "m", "created_at": "2026-07-28T06:38:03.222822Z", "done": done}
    return json.dumps({**head, **members}).encode() + b"\n"


def says(**message):
    return line(message={"role": "assistant", **message})


def whole(**message):
    return line(done=True, done_reason="stop", message={"role": "assistant", **message})
