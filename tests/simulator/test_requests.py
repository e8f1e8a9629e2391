import base64
import json
import struct

import pytest

from tests.simulator.raw import CHAT, CONTENTS, ask, connect, events, http, request_bytes, run

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}
CALLED = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]}


def with_arguments(arguments):
    """A conversation whose assistant called a tool with these arguments."""
    function = {"name": "f", "arguments": arguments}
    call = {"id": "c", "type": "function", "function": function}
    return [*CHAT["messages"], {"role": "assistant", "content": "", "tool_calls": [call]}]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "m"}, 400, "missing_required_parameter"),
        ({"model": "m", "messages": []}, 400, "empty_array"),
        ({"model": "m", "messages": [{"role": "robot"}]}, 400, "invalid_value"),
        ({**CHAT}, 400, None),
        ({**CHAT, "model": "missing-1"}, 404, "model_not_found"),
        ({**CHAT, "model": "m", "stream_options": {"include_usage": True}}, 400, None),
        ({**CHAT, "model": "gpt-5-mini", "max_tokens": 5}, 400, "unsupported_parameter"),
        ({**CHAT, "model": "m", "temperature": 99}, 400, "decimal_above_max_value"),
        ({"model": "m", "messages": with_arguments({"a": 1})}, 400, "invalid_type"),
    ],
)
def test_openai_refuses_when_the_request_is_wrong(body, status, code):
    """What OpenAI refuses is refused with all four members of its error."""

    async def check(simulator):
        got, _, raw = await ask(simulator, http("POST", "/v1/chat/completions", body))
        error = json.loads(raw)["error"]
        assert (got, error["code"]) == (status, code)
        assert set(error) == {"message", "type", "param", "code"}

    run(check)


def test_groq_refuses_logprobs_when_asked():
    """Groq knows no logprobs, and its error has no param."""

    async def check(simulator):
        status, _, raw = await ask(simulator, request_bytes("openai", "m", logprobs=True))
        assert status == 200
        body = {**CHAT, "model": "m", "logprobs": True}
        status, _, raw = await ask(simulator, http("POST", "/openai/v1/chat/completions", body))
        assert status == 400
        assert "param" not in json.loads(raw)["error"]

    run(check)


@pytest.mark.parametrize(
    ("body", "status", "piece"),
    [
        ({**CHAT}, 400, "model is required"),
        ({**CHAT, "model": "missing"}, 404, 'model "missing" not found, try pulling it first'),
        ({**CHAT, "model": "gemma3:4b", "think": True}, 400, "does not support thinking"),
        ({**CHAT, "model": "gemma3:4b", "tools": [TOOL]}, 400, "does not support tools"),
        ({"model": "m", "messages": with_arguments("{}")}, 400, "cannot unmarshal"),
        ({"model": "m", "messages": [{"role": "user", "content": [{"text": "x"}]}]}, 400, "cannot unmarshal"),
        ({"model": "m", "messages": [{"role": "user", "images": ["data:x"]}]}, 400, "illegal base64"),
        ({**CHAT, "model": "m", "format": "yaml"}, 400, "invalid format"),
        ({**CHAT, "model": "m", "options": {"stop": "x"}}, 400, "stop"),
        ({**CHAT, "model": "m", "options": {"temperature": "hot"}}, 400, "temperature"),
        ({**CHAT, "model": "m", "options": {"unknown": "is only logged"}}, 200, "simulated"),
    ],
)
def test_ollama_refuses_when_the_request_is_wrong(body, status, piece):
    """What Ollama's decoder and routes refuse is refused with an error string."""

    async def check(simulator):
        got, _, raw = await ask(simulator, http("POST", "/api/chat", body))
        assert got == status
        assert piece in (json.loads(raw)["error"] if status != 200 else raw.decode())

    run(check)


@pytest.mark.parametrize(
    ("body", "piece"),
    [
        ({"contents": []}, "contents is not specified"),
        ({**CONTENTS, "messages": []}, 'Unknown name "messages"'),
        ({**CONTENTS, "generationConfig": {"max_tokens": 5}}, 'Unknown name "max_tokens"'),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role"),
        ({"contents": [{"role": "user", "parts": [{"type": "text"}]}]}, 'Unknown name "type"'),
        ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
        ({**CONTENTS, "generation_config": {"max_output_tokens": 5}}, ""),
    ],
)
def test_gemini_refuses_when_the_request_is_wrong(body, piece):
    """Unknown names and bad contents are INVALID_ARGUMENT; snake_case is as good as camelCase."""

    async def check(simulator):
        status, _, raw = await ask(simulator, http("POST", "/v1beta/models/m:generateContent", body))
        if not piece:
            assert status == 200
            return
        error = json.loads(raw)["error"]
        assert (status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
        assert piece in error["message"]

    run(check)


@pytest.mark.parametrize(("signature", "status"), [({}, 400), ({"thoughtSignature": "c2ln"}, 200)])
def test_gemini_wants_the_signature_back_when_a_call_is_replayed(signature, status):
    """A 3.x model refuses a replayed function call without its signature."""
    turns = [
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, **signature}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "1"}}}]},
    ]

    async def check(simulator):
        body = {"contents": CONTENTS["contents"] + turns}
        path = "/v1beta/models/gemini-3.5-flash-lite:generateContent"
        assert (await ask(simulator, http("POST", path, body)))[0] == status

    run(check)


@pytest.mark.parametrize(
    ("dialect", "missing", "wrong", "code"),
    [
        ("openai", 401, 401, "invalid_api_key"),
        ("groq", 401, 401, "invalid_api_key"),
        ("openrouter", 401, 401, "401"),
        ("gemini", 403, 400, "API_KEY_INVALID"),
        ("ollama", 401, 401, "unauthorized"),
    ],
)
def test_key_is_refused_when_another_is_required(dialect, missing, wrong, code):
    """Each dialect says in its own way that a key is missing or wrong, and takes the right one."""

    async def check(simulator):
        plain = request_bytes(dialect, "m", stream=False)
        name = b"x-goog-api-key: " if dialect == "gemini" else b"Authorization: Bearer "
        with_bad = plain.replace(b"Host:", name + b"bad\r\nHost:")
        with_good = plain.replace(b"Host:", name + b"good\r\nHost:")
        assert (await ask(simulator, plain))[0] == missing
        status, _, raw = await ask(simulator, with_bad)
        assert status == wrong
        assert code.encode() in raw
        assert (await ask(simulator, with_good))[0] == 200
        assert b"bad" not in str(list(simulator.log)).encode()

    run(check, require_key="good")


def test_openrouter_tries_a_key_when_its_list_is_public():
    """OpenRouter lists its models to anyone and tells a good key at /key."""

    async def check(simulator):
        status, _, raw = await ask(simulator, http("GET", "/api/v1/models"))
        assert status == 200
        assert isinstance(json.loads(raw)["data"][0]["pricing"]["prompt"], str)
        assert (await ask(simulator, http("GET", "/api/v1/key")))[0] == 401
        good = http("GET", "/api/v1/key", headers="Authorization: Bearer good\r\n")
        assert (await ask(simulator, good))[0] == 200

    run(check, require_key="good")


def test_ollama_streams_when_nothing_is_said():
    """Streaming is Ollama's default."""

    async def check(simulator):
        _, headers, raw = await ask(simulator, http("POST", "/api/chat", {**CHAT, "model": "m"}))
        assert headers["content-type"] == "application/x-ndjson"
        assert events(raw)[-1]["done"] is True

    run(check)


@pytest.mark.parametrize(("think", "thinks"), [(None, True), (False, False), (True, True)])
def test_ollama_thinks_by_default_when_the_model_can(think, thinks):
    """A thinking model thinks unless it is told not to."""

    async def check(simulator):
        more = {} if think is None else {"think": think}
        _, _, raw = await ask(simulator, request_bytes("ollama", "qwen3:8b", stream=False, **more))
        assert ("thinking" in json.loads(raw)["message"]) is thinks

    run(check)


@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), (0, "unload")])
def test_ollama_loads_when_messages_are_empty(keep_alive, reason):
    """Empty messages load or unload a model."""

    async def check(simulator):
        body = {"model": "m", "messages": [], "keep_alive": keep_alive}
        _, _, raw = await ask(simulator, http("POST", "/api/chat", body))
        assert json.loads(raw)["done_reason"] == reason

    run(check)


def test_openai_calls_arrive_in_fragments_when_streamed():
    """OpenAI's arguments come in pieces by index and join to one JSON object."""

    async def check(simulator):
        _, _, raw = await ask(simulator, request_bytes("openai", "sim.tools.calls-2", tools=[TOOL]))
        joined, ends = {}, []
        for event in events(raw)[:-1]:
            choice = event["choices"][0]
            ends.append(choice["finish_reason"])
            for call in choice["delta"].get("tool_calls", ()):
                joined[call["index"]] = joined.get(call["index"], "") + call["function"]["arguments"]
        assert [json.loads(text) for text in joined.values()] == [{"city": "simulated", "days": 1}] * 2
        assert ends[-1] == "tool_calls"

    run(check)


def test_ollama_calls_are_whole_objects_when_streamed():
    """Ollama's arguments are an object, and done_reason says stop."""

    async def check(simulator):
        _, _, raw = await ask(simulator, request_bytes("ollama", "sim.tools", tools=[TOOL]))
        *_, call, last = events(raw)
        assert call["message"]["tool_calls"][0]["function"]["arguments"]["days"] == 1
        assert last["done_reason"] == "stop"

    run(check)


@pytest.mark.parametrize("stream", [True, False])
def test_gemini_calls_are_parts_when_tools_are_declared(stream):
    """Gemini's calls are parts with args, the first one signed, and the finish says STOP."""
    declared = [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}]

    async def check(simulator):
        request = request_bytes("gemini", "sim.tools.calls-2", stream=stream, tools=declared)
        _, _, raw = await ask(simulator, request)
        answers = events(raw) if stream else [json.loads(raw)]
        candidates = [answer["candidates"][0] for answer in answers]
        parts = [part for one in candidates for part in one["content"]["parts"]]
        assert [("thoughtSignature" in part, part["functionCall"]["name"]) for part in parts] == [
            (True, "f"),
            (False, "f"),
        ]
        assert candidates[-1]["finishReason"] == "STOP"

    run(check)


def test_model_speaks_when_the_tool_has_answered():
    """After a tool's result the model gives text, so that an agent's loop ends."""

    async def check(simulator):
        body = {
            "model": "sim.tools",
            "messages": [*with_arguments("{}"), {"role": "tool", "tool_call_id": "c", "content": "sunny"}],
            "tools": [TOOL],
        }
        _, _, raw = await ask(simulator, http("POST", "/v1/chat/completions", body))
        assert "sunny" in json.loads(raw)["choices"][0]["message"]["content"]

    run(check)


def test_gemini_stream_is_an_array_when_sse_is_not_asked():
    """Without alt=sse a stream is one JSON array, and so is its error."""

    async def check(simulator):
        path = "/v1beta/models/{}:streamGenerateContent"
        _, _, raw = await ask(simulator, http("POST", path.format("m"), CONTENTS))
        assert len(json.loads(raw)) > 1
        _, _, raw = await ask(simulator, http("POST", path.format("missing"), CONTENTS))
        assert json.loads(raw)[0]["error"]["code"] == 404

    run(check)


@pytest.mark.parametrize(
    ("place", "on_finish", "separate", "in_x_groq"),
    [("separate", 0, 1, 0), ("finish", 1, 0, 0), ("both", 1, 1, 0), ("x_groq", 0, 0, 1), ("none", 0, 0, 0)],
)
def test_usage_sits_where_the_script_says_when_streamed(place, on_finish, separate, in_x_groq):
    """Streamed usage may sit in any of the places that clouds put it."""

    async def check(simulator):
        _, _, raw = await ask(simulator, request_bytes("openai", f"sim.ok.usage-{place}"))
        found = events(raw)[:-1]
        with_usage = [event for event in found if event.get("usage")]
        assert sum(bool(event["choices"]) for event in with_usage) == on_finish
        assert sum(not event["choices"] for event in with_usage) == separate
        assert sum("usage" in event.get("x_groq", {}) for event in found) == in_x_groq

    run(check)


def test_stream_has_the_clouds_manners_when_its_prefix_is_used():
    """OpenRouter comments and repeats the role; Together says eos and lists models as an array."""

    async def check(simulator):
        _, _, raw = await ask(
            simulator, http("POST", "/api/v1/chat/completions", {**CHAT, "model": "m", "stream": True})
        )
        assert raw.startswith(b": OPENROUTER PROCESSING\n\n")
        assert all(event["choices"][0]["delta"]["role"] for event in events(raw)[:-1])
        _, _, raw = await ask(simulator, request_bytes("together", "m"))
        assert events(raw)[-2]["choices"][0]["finish_reason"] == "eos"
        _, _, raw = await ask(simulator, http("GET", "/together/v1/models"))
        assert isinstance(json.loads(raw), list)

    run(check)


def test_lines_end_in_crlf_when_it_is_scripted():
    """An SSE stream may end its lines in CRLF and begin with comments."""

    async def check(simulator):
        _, _, raw = await ask(simulator, request_bytes("openai", "sim.ok.crlf.comments-2.role"))
        assert raw.count(b": OPENROUTER PROCESSING\r\n\r\n") == 2
        assert raw.count(b"\n") == raw.count(b"\r\n")

    run(check)


def test_answer_stops_at_the_ceiling_when_one_is_given():
    """A ceiling of tokens cuts the text and says so."""

    async def check(simulator):
        _, _, raw = await ask(simulator, request_bytes("openai", "m", stream=False, max_tokens=2))
        choice = json.loads(raw)["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("[simulat", "length")

    run(check)


def test_answer_fits_the_schema_when_json_is_asked():
    """Structured output is JSON of the schema's shape in each dialect."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    config = {"responseMimeType": "application/json", "responseJsonSchema": schema}

    async def check(simulator):
        _, _, raw = await ask(simulator, request_bytes("openai", "m", stream=False, response_format=wanted))
        assert json.loads(json.loads(raw)["choices"][0]["message"]["content"]) == {"n": 1}
        _, _, raw = await ask(simulator, request_bytes("ollama", "m", stream=False, format=schema))
        assert json.loads(json.loads(raw)["message"]["content"]) == {"n": 1}
        _, _, raw = await ask(simulator, request_bytes("gemini", "m", stream=False, generationConfig=config))
        assert json.loads(json.loads(raw)["candidates"][0]["content"]["parts"][0]["text"]) == {"n": 1}

    run(check)


def test_embeddings_are_the_same_vectors_when_packed():
    """Base64 embeddings are the float ones in little-endian float32, and unit vectors."""

    async def check(simulator):
        body = {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 8}
        _, _, plain = await ask(simulator, http("POST", "/v1/embeddings", body))
        _, _, packed = await ask(simulator, http("POST", "/v1/embeddings", {**body, "encoding_format": "base64"}))
        floats = [one["embedding"] for one in json.loads(plain)["data"]]
        strings = [one["embedding"] for one in json.loads(packed)["data"]]
        assert [struct.unpack("<8f", base64.b64decode(one)) for one in strings] == [
            pytest.approx(one) for one in floats
        ]
        assert sum(value**2 for value in floats[0]) == pytest.approx(1.0)

    run(check)


def test_requests_are_answered_in_turn_when_pipelined_in_chunks():
    """A chunked request and one behind it are both answered on one connection."""

    async def check(simulator):
        payload = json.dumps({**CHAT, "model": "m", "stream": False}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = b"".join(b"1\r\n%b\r\n" % payload[at : at + 1] for at in range(len(payload)))
        one = await connect(simulator, head + body + b"0\r\n\r\n" + http("GET", "/api/version"))
        assert json.loads((await one.answer())[2])["choices"]
        assert json.loads((await one.answer())[2])["version"]
        one.close()

    run(check)


@pytest.mark.parametrize(
    "raw", [b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"]
)
def test_connection_ends_with_400_when_it_is_no_plain_http(raw):
    """What is not plain HTTP/1.1 gets a 400 and a close."""

    async def check(simulator):
        one = await connect(simulator, raw)
        assert (await one.rest()).startswith(b"HTTP/1.1 400")

    run(check)


@pytest.mark.parametrize(
    "body", [[], "x", {"model": "m", "messages": [3]}, {"model": "m", "input": 3, "requests": [1]}]
)
@pytest.mark.parametrize(
    "path",
    [
        "/api/chat",
        "/api/embed",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1beta/models/m:batchEmbedContents",
    ],
)
def test_body_is_refused_when_its_shape_is_absurd(path, body):
    """No body, however odd, leaves a request without an answer."""

    async def check(simulator):
        status, _, _ = await ask(simulator, http("POST", path, body))
        assert status in (200, 400)

    run(check)


def test_head_has_no_body_when_ollama_is_probed():
    """HEAD / answers like GET / without its text."""

    async def check(simulator):
        one = await connect(simulator, http("HEAD", "/") + http("GET", "/"))
        status, headers = await one.head()
        assert (status, headers["content-length"]) == (200, "17")
        assert (await one.answer())[2] == b"Ollama is running"
        one.close()

    run(check)
