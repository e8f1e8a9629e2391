"""Google's own client as the oracle: for one conversation its request and ours mean the same."""

import base64
import json

import pytest

from tests.providers.google_cases import called, camel, function, google, request, result
from tests.providers.test_google_embeddings import wish
from tests.simulator.raw import run

genai = pytest.importorskip("google.genai", reason="the official Google client is not installed")
types = genai.types
pytestmark = pytest.mark.clients

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "additionalProperties": False}
PIXEL = b"\x89PNG made up"
MODEL = "gemini-3.5-flash"
WEATHER = types.FunctionDeclaration(name="weather", description="Now.", parameters_json_schema=CITY)
SIGNATURE = base64.b64encode(b"signature").decode()


def user(*parts):
    return types.Content(role="user", parts=list(parts))


def text(words):
    return types.Part.from_text(text=words)


def modes(mode, *names):
    calling = types.FunctionCallingConfig(mode=mode, allowed_function_names=list(names) or None)
    return types.ToolConfig(function_calling_config=calling)


def with_tools(**more):
    automatic = types.AutomaticFunctionCallingConfig(disable=True)
    tools = [types.Tool(function_declarations=[WEATHER])]
    return types.GenerateContentConfig(tools=tools, automatic_function_calling=automatic, **more)


def saying(*content, **fields):
    return {"messages": [{"role": "user", "content": list(content)}], **fields}


TEXT = {"type": "text", "text": "hi"}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"}}
TOOLS = [function("weather", CITY, description="Now.")]
CALL = types.Part(
    function_call=types.FunctionCall(id="c1", name="weather", args={"city": "Ulm"}), thought_signature=b"signature"
)
ANSWER = types.Part(function_response=types.FunctionResponse(id="c1", name="weather", response={"output": "sunny"}))
STEP = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        called("c1", "weather", '{"city":"Ulm"}', extra_content={"google": {"thought_signature": SIGNATURE}})
    ],
}
CASES = {
    "text": (
        [user(text("hi"))],
        types.GenerateContentConfig(
            system_instruction="Be brief.",
            temperature=0.5,
            top_p=0.9,
            max_output_tokens=50,
            stop_sequences=["x"],
            seed=3,
        ),
        {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 50,
            "stop": "x",
            "seed": 3,
        },
    ),
    "tools": ([user(text("hi"))], with_tools(), saying(TEXT, tools=TOOLS)),
    "auto": (
        [user(text("hi"))],
        with_tools(tool_config=modes("AUTO")),
        saying(TEXT, tools=TOOLS, tool_choice="auto"),
    ),
    "named": (
        [user(text("hi"))],
        with_tools(tool_config=modes("ANY", "weather")),
        saying(TEXT, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "weather"}}),
    ),
    "results": (
        [user(text("hi")), types.Content(role="model", parts=[CALL]), user(ANSWER)],
        with_tools(),
        {"messages": [{"role": "user", "content": "hi"}, STEP, result("c1", "sunny")], "tools": TOOLS},
    ),
    "image": (
        [user(text("hi"), types.Part.from_bytes(data=PIXEL, mime_type="image/png"))],
        None,
        saying(TEXT, IMAGE),
    ),
    "schema": (
        [user(text("hi"))],
        types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=PERSON),
        saying(TEXT, response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}),
    ),
    "thinking": (
        [user(text("hi"))],
        types.GenerateContentConfig(thinking_config=types.ThinkingConfig(thinking_level="LOW", include_thoughts=True)),
        saying(TEXT, reasoning_effort="low"),
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_request_means_what_googles_client_says_when_the_conversation_is_the_same(case, stream):
    """Body and path of the official client, as they arrive, are ours."""
    contents, config, fields = CASES[case]

    async def check(simulator):
        options = types.HttpOptions(base_url=simulator.google_url, api_version="v1beta")
        models = genai.Client(api_key="key", http_options=options).aio.models
        if stream:
            chunks = await models.generate_content_stream(model=MODEL, contents=contents, config=config)
            [chunk async for chunk in chunks]
        else:
            await models.generate_content(model=MODEL, contents=contents, config=config)
        theirs = simulator.log[-1]
        call = google().encode_chat(request(stream=stream, **fields), MODEL)
        assert simplest(json.loads(call.body)) == simplest(theirs.body)
        path, _, query = call.endpoint.target.partition("?")
        assert (path, query) == (theirs.path.removeprefix("/google"), theirs.query)

    run(check)


def test_embeddings_mean_what_googles_client_says_when_the_texts_are_the_same():
    """The official client's batch is ours."""

    async def check(simulator):
        options = types.HttpOptions(base_url=simulator.google_url, api_version="v1beta")
        models = genai.Client(api_key="key", http_options=options).aio.models
        config = types.EmbedContentConfig(output_dimensionality=8)
        await models.embed_content(model="gemini-embedding-001", contents=["a", "b"], config=config)
        theirs = simulator.log[-1]
        (call,) = google().encode_embeddings(wish("a", "b", dimensions=8), "gemini-embedding-001")
        ours = json.loads(call.body)
        for one in theirs.body["requests"]:
            one["content"].pop("role", None)
        assert ours == theirs.body

    run(check)


def simplest(body):
    """One spelling of what can be written in two ways: names, base64, nothing; the instruction's role says nothing."""
    body = {name: member for name, member in camel(body).items() if member != {}}
    body.get("systemInstruction", {}).pop("role", None)
    for part in (part for turn in body["contents"] for part in turn["parts"]):
        for holder, name in ((part.get("inlineData"), "data"), (part, "thoughtSignature")):
            if holder and name in holder:
                holder[name] = holder[name].replace("-", "+").replace("_", "/")
    return body
