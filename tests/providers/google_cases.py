"""What the tests of Gemini's requests share: a provider, requests in OpenAI's shape, and what is sent for them."""

import json
import re

import msgspec

from mana_llm.providers.google import Google
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import Origin

ASKED = [{"role": "user", "content": "hi"}]
SNAKE = re.compile(r"_([a-z])")
FREE = {"args", "response", "parametersJsonSchema", "responseJsonSchema", "parameters"}


def google():
    """A provider with a memory of its own."""
    return Google(Origin("https", "generativelanguage.googleapis.com", 443), "", "made-up-key-of-nobody")


def request(stream=False, **fields):
    """A request; `messages` is a greeting if it is not given."""
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in {"messages": ASKED, **fields}.items()}
    return ChatRequest(raw, "", stream, include_usage=False)


def sent(model="gemini-3.5-flash", provider=None, **fields):
    """The body that is sent for a request."""
    return json.loads((provider or google()).encode_chat(request(**fields), model).body)


def function(name, parameters=None, **more):
    """A tool in OpenAI's shape."""
    named = {"name": name, **more} if parameters is None else {"name": name, "parameters": parameters, **more}
    return {"type": "function", "function": named}


def called(call_id, name="f", arguments="{}", **more):
    """A call as an assistant's message has it."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def result(call_id, content="ok", **more):
    """A tool message."""
    return {"role": "tool", "tool_call_id": call_id, "content": content, **more}


def answer(*parts, reason="STOP", response_id="r"):
    """A whole answer, or an event of a streamed one."""
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    return json.dumps({"candidates": [candidate], "modelVersion": "m", "responseId": response_id}).encode()


def streamed(provider, asked, *bodies):
    """The chunks of a streamed answer whose events are `bodies`."""
    decoder = provider.open_stream(asked)
    chunks = decoder.feed(b"".join(b"data: %b\r\n\r\n" % body for body in bodies)) + decoder.end()
    assert decoder.done, decoder.failure
    return chunks


def camel(value):
    """Members in camel case, as proto JSON takes both; what clients fill in freely stays, nulls go."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    given = {name: member for name, member in value.items() if member is not None}
    found = {SNAKE.sub(lambda match: match[1].upper(), name): member for name, member in given.items()}
    return {name: member if name in FREE else camel(member) for name, member in found.items()}
