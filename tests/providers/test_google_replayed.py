"""Recorded requests of real clients, put into OpenAI's words and back: ours mean the same."""

import json
import re
from itertools import count

import pytest

from tests.google_recordings import FOLDERS
from tests.providers.google_cases import camel, google, request
from tests.recordings import ABSENT, ROOT, cases, recordings

# What OpenAI's chat API has no words for: uploaded files, caches, the tools that run at Google's.
NO_WORDS = ("fileData", "file_data", "cachedContent", "toolCall", "executableCode")
# By name: what OpenAI's API has no words for, either: a top_k of 2.0, and a role that is refused.
NOT_TOLD = {
    "open-telemetry+opentelemetry-python-contrib--vertexai__test_generate_content_extra_params.yaml.json#0": "top_k",
    "open-telemetry+opentelemetry-python-contrib--vertexai__test_generate_content_invalid_role.yaml.json#0": "role",
}
CONFIG = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "seed": "seed",
    "candidateCount": "n",
}
CHOICES = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
ALLOWED = {"VALIDATED": "auto", "ANY": "required"}


def is_told(recording):
    body = recording.request.get("json")
    if recording.file in NOT_TOLD or "enerateContent" not in recording.url or not isinstance(body, dict):
        return False
    return isinstance(body.get("contents"), list) and not any(word in json.dumps(body) for word in NO_WORDS)


def model_of(recording):
    return re.search(r"models/([^:?]+):", recording.url)[1]


def turns_of(body):
    """The recorded contents: neighbours of one role are one turn, and `thought: false` says nothing."""
    turns = []
    for content in body["contents"]:
        parts = [{name: part[name] for name in part if part[name] is not False} for part in content["parts"]]
        role = content.get("role", "user")
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        else:
            turns.append({"role": role, "parts": parts})
    return turns


class Inverse:
    """Turns Gemini's turns into OpenAI's messages."""

    def __init__(self):
        self.messages = []
        self._numbers = count()
        self._open = []

    def add(self, turn):
        if turn["role"] == "model":
            self._add_answer(turn["parts"])
            return
        for part in turn["parts"]:
            if "functionResponse" in part:
                self._add_result(part["functionResponse"])
        if content := [said for part in turn["parts"] if (said := _content_of(part))]:
            self.messages.append({"role": "user", "content": content})

    def _add_answer(self, parts):
        calls = [self._call_of(part) for part in parts if "functionCall" in part]
        content = [{"type": "text", "text": part["text"]} for part in parts if "text" in part]
        self.messages.append({"role": "assistant", "content": content, "tool_calls": calls or None})

    def _call_of(self, part):
        called = part["functionCall"]
        call_id = called.get("id") or f"call_mana_{next(self._numbers)}"
        self._open.append((called["name"], call_id))
        function = {"name": called["name"], "arguments": json.dumps(called.get("args") or {})}
        call = {"id": call_id, "type": "function", "function": function}
        if "thoughtSignature" in part:
            call["extra_content"] = {"google": {"thought_signature": part["thoughtSignature"]}}
        return call

    def _add_result(self, told):
        at = next(at for at, (name, _) in enumerate(self._open) if name == told["name"])
        _, call_id = self._open.pop(at)
        content = [{"type": "text", "text": json.dumps(told["response"])}]
        content += [_content_of(part) for part in told.get("parts", [])]
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})


def _content_of(part):
    if "text" in part:
        return {"type": "text", "text": part["text"]}
    if "inlineData" not in part:
        return None
    kind, data = part["inlineData"]["mimeType"], part["inlineData"]["data"]
    uri = f"data:{kind};base64,{data}"
    if kind in ("audio/wav", "audio/mp3"):
        return {"type": "input_audio", "input_audio": {"data": data, "format": kind.removeprefix("audio/")}}
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": uri}}
    return {"type": "file", "file": {"filename": "f", "file_data": uri}}


def fields_of(body):
    """The recorded members that have words in OpenAI's API."""
    inverse = Inverse()
    for part in body.get("systemInstruction", {}).get("parts", []):
        inverse.messages.append({"role": "system", "content": part["text"]})
    for turn in turns_of(body):
        inverse.add(turn)
    config = body.get("generationConfig", {})
    fields = {CONFIG[name]: value for name, value in config.items() if name in CONFIG}
    fields["messages"] = inverse.messages
    fields["tools"] = [
        {"type": "function", "function": {**named_of(one), "parameters": schema_of(one)}} for one in declared_in(body)
    ]
    if "responseJsonSchema" in config:
        schema = {"name": "n", "schema": config["responseJsonSchema"]}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if fields["tools"] and (calling := calling_of(body)):
        fields["tool_choice"] = choice_of(calling, [tool["function"]["name"] for tool in fields["tools"]])
    return fields


def calling_of(body):
    return body.get("toolConfig", {}).get("functionCallingConfig")


def choice_of(calling, names):
    """The choice that means this mode; VALIDATED is what allowed tools become, all of them if none is named."""
    if "allowedFunctionNames" not in calling and calling["mode"] in CHOICES:
        return CHOICES[calling["mode"]]
    chosen = calling.get("allowedFunctionNames", names)
    tools = [{"type": "function", "function": {"name": name}} for name in chosen]
    return {"type": "allowed_tools", "allowed_tools": {"mode": ALLOWED[calling["mode"]], "tools": tools}}


def declared_in(body):
    return [one for tool in body.get("tools", ()) for one in tool.get("functionDeclarations", ())]


def named_of(one):
    return {name: one[name] for name in ("name", "description") if one.get(name)}


def schema_of(one):
    return one.get("parametersJsonSchema") or one.get("parameters")


def bare_turns(turns):
    """Empty texts are no parts for us."""
    return [{**turn, "parts": [part for part in turn["parts"] if part.get("text") != ""]} for turn in turns]


@pytest.mark.parametrize("recording", [case for folder in FOLDERS for case in cases(folder, is_told)])
def test_request_means_the_same_when_it_was_recorded(recording):
    """Turns, instruction, tools, modes and settings are those that the real client sent."""
    body = camel(recording.request["json"])
    ours = json.loads(google().encode_chat(request(**fields_of(body)), model_of(recording)).body)
    assert ours["contents"] == bare_turns(turns_of(body))
    instruction = body.get("systemInstruction", {}).get("parts", [])
    assert ours.get("systemInstruction", {}).get("parts", []) == [{"text": part["text"]} for part in instruction]
    recorded = [(named_of(one), schema_of(one)) for one in declared_in(body)]
    assert [(named_of(one), schema_of(one)) for one in declared_in(ours)] == [
        (named, schema if (schema or {}).get("properties") else None) for named, schema in recorded
    ]
    config, our_config = body.get("generationConfig", {}), ours.get("generationConfig", {})
    assert our_config.items() >= {name: config[name] for name in CONFIG if name in config}.items()
    assert our_config.get("responseJsonSchema") == config.get("responseJsonSchema")
    if recorded and (calling := calling_of(body)):
        assert calling_of(ours).items() >= calling.items()


@pytest.mark.skipif(not ROOT.is_dir(), reason=ABSENT)
def test_most_requests_are_compared_when_recordings_are_there():
    """Most recorded requests have an equivalent; among them tools, results, images, audio and schemas."""
    assert set(NOT_TOLD) <= {one.file for folder in FOLDERS for one in recordings(folder)}
    chats = [one for folder in FOLDERS for one in recordings(folder) if "enerateContent" in one.url]
    told = [one for one in chats if is_told(one)]
    assert len(told) > 0.8 * len(chats)
    bodies = [json.dumps(camel(one.request["json"])) for one in told]
    for word in ("functionResponse", "thoughtSignature", "inlineData", "audio/", "responseJsonSchema", "toolConfig"):
        assert any(word in body for body in bodies), word
