"""The simulator's answers have the shapes of recorded ones: no member that no recording has, none missing."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.simulator.raw import ask, events, http, request_bytes, run

RECORDED = Path(os.environ.get("MANA_LLM_RECORDED") or Path(__file__).parents[2] / "../shared/recorded")
pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="no recordings: set MANA_LLM_RECORDED or put them at ../shared/recorded"
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def shape(value, path=""):
    """Each path in a document with the names of its JSON types; the members of lists are one path."""
    found = {path: {type(value).__name__}}
    items = value.items() if isinstance(value, dict) else []
    if isinstance(value, list):
        items = [("*", item) for item in value]
    for name, item in items:
        for key, kinds in shape(item, f"{path}.{name}").items():
            found.setdefault(key, set()).update(kinds)
    return found


def recorded(folder, *, stream, url):
    """Successful recorded documents of a folder: whole answers, or each answer's events."""
    for file in sorted((RECORDED / folder).glob("*.json")):
        for interaction in json.loads(file.read_text())["interactions"]:
            request, response = interaction["request"], interaction["response"]
            if response["status"] != 200 or not re.search(url, request["url"]):
                continue
            if not stream and isinstance(response.get("json"), dict):
                yield [response["json"]]
            elif stream and "text" in response and (found := documents(response["text"])):
                yield found


def documents(text):
    """The events of a recorded stream, errors left out."""
    try:
        found = events(text.encode())
    except json.JSONDecodeError:
        return []
    return [one for one in found if isinstance(one, dict) and "error" not in one]


def check_shape(ours, theirs):
    """Our paths are known ones, of known types, and include what all recordings have."""
    shapes = [shape(one) for one in theirs]
    assert len(shapes) > 1
    known = {}
    for one in shapes:
        for path, kinds in one.items():
            known.setdefault(path, set()).update(kinds)
    always = set.intersection(*(set(one) for one in shapes))
    mine = shape(ours)
    assert {path for path in mine if path not in known and not FREE.search(path)} == set()
    assert {path for path in always if path not in mine} == set()
    wrong = {
        path: kinds
        for path, kinds in mine.items()
        if path in known and not kinds <= known[path] | ({"int", "float"} if "float" in known[path] else set())
    }
    assert wrong == {}


# Below the first paths the members are a caller's or a model's own; the others are documented (docs/sources.md
# sections 2.5, 3.5 and 3.6) but occur in none of the recordings at hand.
FREE = re.compile(
    r"\.arguments\.|\.args\.|\.pricing|_details\."
    r"|models\.\*\.capabilities|parts\.\*\.thought$|functionCall\.id$"
)
CHAT = r"chat/completions|fixture:"


@pytest.mark.parametrize(
    ("folder", "dialect", "model"),
    [
        ("openai-chat", "openai", "m"),
        ("groq", "groq", "openai/gpt-oss-20b"),
        ("openrouter", "openrouter", "openai/gpt-oss-20b"),
        ("together", "together", "m"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tools", [0, 1])
def test_chat_has_the_recorded_shape_when_openai_compatible(folder, dialect, model, stream, tools):
    """Chat answers and chunks have the members that the cloud's recordings have."""
    theirs = [one for one in recorded(folder, stream=stream, url=CHAT) if all("choices" in doc for doc in one)]
    if (folder, stream, tools) == ("together", True, 1):
        pytest.skip("no recording has a streamed tool call of Together's")

    async def check(simulator):
        if tools:
            simulator.script("sim.tools")
        more = {"stream_options": {"include_usage": True}} if stream else {}
        request = request_bytes(dialect, model, stream=stream, tools=[TOOL], **more)
        _, _, raw = await ask(simulator, request)
        check_shape(documents(raw.decode()) if stream else [json.loads(raw)], theirs)

    run(check)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", ["qwen3:8b", "sim.tools"])
def test_chat_has_the_recorded_shape_when_ollama(stream, name):
    """Ollama's lines have the members that recorded lines have."""
    found = recorded("ollama-native", stream=stream, url=r"/api/chat")
    theirs = [one for one in found if all("message" in doc for doc in one)]

    async def check(simulator):
        _, _, raw = await ask(simulator, request_bytes("ollama", name, stream=stream, tools=[TOOL]))
        check_shape(documents(raw.decode()) if stream else [json.loads(raw)], theirs)

    run(check)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tools", [0, 1])
def test_chat_has_the_recorded_shape_when_gemini(stream, tools):
    """Gemini's answers and events have the members that recorded ones have."""
    url = r":streamGenerateContent\?alt=sse" if stream else r":generateContent"
    theirs = [one for one in recorded("google", stream=stream, url=url) if all("candidates" in doc for doc in one)]
    declared = [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}]
    config = {"thinkingConfig": {"includeThoughts": True}}

    async def check(simulator):
        if tools:
            simulator.script("sim.tools")
        request = request_bytes(
            "gemini", "gemini-3.5-flash-lite", stream=stream, tools=declared, generationConfig=config
        )
        _, _, raw = await ask(simulator, request)
        check_shape(documents(raw.decode()) if stream else [json.loads(raw)], theirs)

    run(check)


@pytest.mark.parametrize(
    ("folder", "url", "path"),
    [
        ("ollama-native", r"/api/tags", "/api/tags"),
        ("google", r"/models\?", "/v1beta/models"),
        ("openai-models", r"/v1/models", "/v1/models"),
        ("groq", r"/v1/models", "/openai/v1/models"),
    ],
)
def test_models_have_the_recorded_shape_when_listed(folder, url, path):
    """A list of models has the members that recorded lists have."""
    theirs = [one for one in recorded(folder, stream=False, url=url) if "choices" not in one[0]]

    async def check(simulator):
        _, _, raw = await ask(simulator, http("GET", path))
        check_shape([json.loads(raw)], theirs * 2)

    run(check)


@pytest.mark.parametrize(
    ("folder", "dialect", "status"),
    [
        ("openai-chat", "openai", 404),
        ("groq", "groq", 404),
        ("google", "gemini", 404),
        ("openrouter", "openrouter", 400),
    ],
)
def test_unknown_model_has_the_recorded_shape_when_refused(folder, dialect, status):
    """The refusal of an unknown model has the recorded members and types."""
    theirs = []
    for file in (RECORDED / folder).glob("*.json"):
        for one in json.loads(file.read_text())["interactions"]:
            body = one["response"].get("json")
            if one["response"]["status"] == status and isinstance(body, dict) and "error" in body:
                theirs.append(body)

    async def check(simulator):
        _, _, raw = await ask(simulator, request_bytes(dialect, "missing", stream=False))
        check_shape(json.loads(raw), theirs * 2)

    run(check)
