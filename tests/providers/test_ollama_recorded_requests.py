"""Requests that others recorded, asked again in OpenAI's shape: what is sent means the same."""

import json

import pytest

from tests.providers.ollama_world import sent
from tests.recordings import ABSENT, ROOT, cases, recordings

FOLDER = "ollama-native"
OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "num_predict": "max_tokens",
    "stop": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}


def body_of(recording):
    body = recording.request.get("json") or recording.request.get("text") or recording.request.get("body")
    return json.loads(body) if isinstance(body, str) and body.startswith("{") else body


def is_chat(recording):
    return recording.url.endswith("/api/chat") and isinstance(body_of(recording), dict)


def openai_messages(messages):
    """The same conversation in OpenAI's words; calls get ids, and each result the id of the first open call."""
    written, open_calls = [], []
    for at, message in enumerate(messages):
        told = {"role": message["role"], "content": message["content"]}
        if message.get("thinking"):
            told["reasoning_content"] = message["thinking"]
        calls = [
            {"id": f"call_{at}_{index}", "type": "function", "function": {**call["function"]}}
            for index, call in enumerate(message.get("tool_calls") or ())
        ]
        for call in calls:
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
            open_calls.append(call)
        if calls:
            told["tool_calls"] = calls
        if message["role"] == "tool":
            name = message.get("tool_name")
            call = next(call for call in open_calls if name in (None, call["function"]["name"]))
            open_calls.remove(call)
            told["tool_call_id"] = call["id"]
        written.append(told)
    return written


def openai_fields(body):
    fields = {
        ours: body["options"][theirs] for theirs, ours in OPTIONS.items() if theirs in (body.get("options") or {})
    }
    fields["messages"] = openai_messages(body["messages"])
    if body.get("tools"):
        fields["tools"] = body["tools"]
    wanted = body.get("format")
    if wanted:
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": wanted}}
        fields["response_format"] = {"type": "json_object"} if wanted == "json" else schema
    if body.get("think") is not None:
        fields["reasoning_effort"] = "medium" if body["think"] else "none"
    return fields


def plain_messages(messages):
    kept = ("role", "content", "thinking", "tool_calls", "images")
    return [{name: plain_calls(message[name]) for name in kept if message.get(name)} for message in messages]


def plain_calls(value):
    if not isinstance(value, list):
        return value
    return [{"name": call["function"]["name"], "arguments": call["function"]["arguments"]} for call in value]


@pytest.mark.parametrize("recording", cases(FOLDER, is_chat))
def test_body_is_the_recorded_one_when_it_is_asked_in_openais_shape(recording):
    """Messages, tools, format, thinking and options arrive as others sent them."""
    body = body_of(recording)
    ours = sent(body["model"], **openai_fields(body))
    assert plain_messages(ours["messages"]) == plain_messages(body["messages"])
    assert ours.get("tools", []) == (body.get("tools") or [])
    assert ours.get("format") == (body.get("format") or None)
    assert bool(ours.get("think")) == bool(body.get("think"))
    assert ("think" in ours) == (body.get("think") is not None)
    wanted = {name: value for name, value in (body.get("options") or {}).items() if name in OPTIONS}
    assert ours.get("options", {}) == wanted
    results = [message.get("tool_name") for message in body["messages"] if message["role"] == "tool"]
    named = [message["tool_name"] for message in ours["messages"] if message["role"] == "tool"]
    assert all(theirs in (None, name) for theirs, name in zip(results, named, strict=True))


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_recorded_requests_cover_the_features_when_they_are_counted():
    """The recordings hold tools, results, formats and thinking, so that the comparison means something."""
    bodies = [body_of(recording) for recording in recordings(FOLDER) if is_chat(recording)]
    counts = {name: sum(bool(body.get(name)) for body in bodies) for name in ("tools", "format", "think")}
    assert counts["tools"] > 20
    assert counts["format"] > 2
    assert counts["think"] > 5
