"""`POST /v1/embeddings` at the gateway: what is refused, what passes, what the answer says."""

import asyncio
import json

import openai
import pytest
import uvloop

from tests.caller import call, counted
from tests.puppet import answer, puppet, request_of
from tests.world import gateway, world

PATH = "POST /v1/embeddings"
MODEL = "openai/text-embedding-3-small"


def asked(body, **settings):
    """The answer to one request, and the gateway's metrics."""

    async def main():
        async with gateway(**settings) as running:
            answer = await call(running.port, PATH, body if isinstance(body, bytes) else json.dumps(body).encode())
            # The request ends a moment after its last byte was sent.
            async with asyncio.timeout(5):
                while counted(running.application.metrics.text(), "mana_llm_requests_total") < 1:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            return answer, running.application.metrics.text(), list(running.simulator.log)

    return uvloop.run(main())


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input": []}, "empty_array", "input"),
        ({"input": [[]]}, "empty_array", "input"),
        ({"input": ""}, "empty_string", "input"),
        ({"input": None}, "missing", "input"),
        ({}, "missing", "input"),
        ({"input": {"a": 1}}, "invalid_type", "input"),
        ({"input": ["a", 1]}, "invalid_type", "input"),
        ({"input": [1, "a"]}, "invalid_type", "input"),
        ({"input": 7}, "invalid_type", "input"),
        ({"input": ["a"] * 2049}, "array_above_max_length", "input"),
        ({"input": "a", "encoding_format": "hex"}, "invalid_value", "encoding_format"),
        ({"input": "a", "dimensions": 0}, "integer_below_min_value", "dimensions"),
        ({"input": "a", "dimensions": "many"}, "invalid_value", "dimensions"),
        ({"input": "a", "model": ""}, "missing", "model"),
    ],
)
def test_request_is_refused_when_it_cannot_be_served(fields, code, param):
    """What is wrong is named before anybody is asked."""
    answer, _, log = asked({"model": MODEL, **fields})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, code, param)
    assert not [entry for entry in log if entry.path.endswith("/embeddings")]


@pytest.mark.parametrize(
    ("given", "count"),
    [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (["a"] * 2048, 2048)],
    ids=["text", "list of one", "texts", "tokens", "token lists", "most"],
)
def test_input_reaches_the_server_as_it_came_when_it_speaks_the_same_language(given, count):
    """Texts and tokens pass unchanged, unknown members too, and each input has its vector."""
    answer, _, log = asked({"model": MODEL, "input": given, "unheard_of": 1, "dimensions": 3})
    assert answer.status == 200
    assert [row["index"] for row in answer.json["data"]] == list(range(count))
    assert all(len(row["embedding"]) == 3 for row in answer.json["data"])
    (entry,) = [entry for entry in log if entry.path.endswith("/embeddings")]
    sent = entry.body if isinstance(entry.body, dict) else json.loads(entry.body)
    assert (sent["input"], sent["unheard_of"], sent["model"]) == (given, 1, "text-embedding-3-small")


def test_answer_is_labelled_and_counted_when_it_is_embeddings():
    """Resolved model, attempts, usage and metrics are those of any answer."""
    answer, metrics, _ = asked({"model": MODEL, "input": "Hello"})
    assert answer.json["object"] == "list"
    assert answer.json["model"] == answer.headers["x-mana-llm-resolved"] == MODEL
    assert answer.headers["x-mana-llm-attempts"] == "1"
    assert {"x-request-id", "x-mana-llm-config", "x-mana-llm-cache"} <= set(answer.headers)
    assert "x-mana-llm-usage" not in answer.headers
    tokens = answer.json["usage"]["prompt_tokens"]
    assert tokens > 0
    assert counted(metrics, "mana_llm_llm_requests_total", provider="openai", status="ok") == 1
    assert counted(metrics, "mana_llm_tokens_total", provider="openai", type="input") == tokens


def test_usage_is_said_to_be_estimated_when_the_provider_reports_none():
    """Gemini's embeddings count nothing: the answer says that its usage is an estimate."""
    answer, _, _ = asked({"model": "google/gemini-embedding-001", "input": "Hello there"})
    assert answer.status == 200
    assert answer.headers["x-mana-llm-usage"] == "estimated"
    assert answer.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_every_call_is_counted_when_one_request_needs_several():
    """Gemini takes a hundred inputs at a time: each call is in the metric, as the provider saw it."""
    said, metrics, log = asked({"model": "google/gemini-embedding-001", "input": ["a"] * 450})
    assert said.status == 200
    assert sum(entry.method == "POST" for entry in log) == 5
    assert counted(metrics, "mana_llm_llm_requests_total", provider="google", status="ok") == 5
    assert said.headers["x-mana-llm-attempts"] == "1"


def test_every_call_is_counted_when_a_later_one_fails():
    """Those that went well before the one that failed are counted, too, and none that was never made."""

    async def main() -> None:
        batch = json.dumps({"embeddings": [{"values": [0.5]}] * 100}).encode()
        calls = iter((answer(batch), answer(batch), b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"))

        async def play(reader, writer):
            while True:
                head, _ = await request_of(reader)
                writer.write(next(calls) if head.startswith(b"POST ") else answer(b"{}"))

        async with puppet(play) as url, gateway(google_base_url=url.removesuffix("/v1")) as running:
            body = json.dumps({"model": "google/gemini-embedding-001", "input": ["a"] * 450}).encode()
            assert (await call(running.port, PATH, body)).status == 503
            metrics = running.application.metrics.text()
            assert counted(metrics, "mana_llm_llm_requests_total", provider="google", status="ok") == 2
            assert counted(metrics, "mana_llm_llm_requests_total", provider="google", status="ProviderServerError") == 1
            assert counted(metrics, "mana_llm_llm_requests_total") == 3

    uvloop.run(main())


def test_chain_is_walked_when_its_first_entry_is_down(tmp_path):
    """Embeddings fall back as chat does."""
    chain = "['openai/text-embedding-3-small', 'together/text-embedding-3-small']"
    embed = f"{{kind: embeddings, chain: {chain}}}"
    aliases = f"aliases: {{mana/embed: {embed}, mana/any: {{chain: [openai/any]}}}}\ndefault: mana/any\n"
    nobody = "http://127.0.0.1:1/v1"
    with world(aliases, tmp_path, openai_base_url=nobody) as running:
        client = openai.OpenAI(base_url=running.v1, api_key="none", max_retries=0)
        raw = client.embeddings.with_raw_response.create(model="mana/embed", input="Hello")
    assert raw.headers["x-mana-llm-resolved"] == "together/text-embedding-3-small"
    assert raw.headers["x-mana-llm-attempts"] == "2"


def test_method_is_refused_when_it_is_not_post():
    """Another method is a 405 that names the right one."""

    async def main():
        async with gateway() as running:
            return await call(running.port, "GET /v1/embeddings")

    assert uvloop.run(main()).status == 405


def test_large_text_passes_when_it_is_full_of_colons():
    """A large input is text and no heap of members, however many colons it has."""
    answer, _, _ = asked({"model": MODEL, "input": "a:b:" * 100_000})
    assert answer.status == 200
