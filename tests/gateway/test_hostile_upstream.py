"""Upstreams that answer with malice: nothing of it reaches the client but a typed error."""

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from mana_llm.schema.wire import Origin
from tests.caller import begin_chat, chat
from tests.puppet import STREAM_HEAD, puppet, request_of, saying
from tests.puppet import answer as answering
from tests.world import World, gateway

PLAIN_HEADERS = {
    "date", "content-type", "content-length", "connection", "x-request-id", "x-mana-llm-resolved",
    "x-mana-llm-attempts", "x-mana-llm-config", "x-mana-llm-cache", "server-timing",
}  # fmt: skip
STREAM_HEADERS = PLAIN_HEADERS - {"content-length"} | {"transfer-encoding", "cache-control", "x-accel-buffering"}
ERROR_HEADERS = {"date", "content-type", "content-length", "connection", "x-request-id", "x-should-retry"}
ERROR_HEADERS |= {"x-mana-llm-attempts", "x-mana-llm-cache", "x-mana-llm-config", "server-timing"}
PROVIDERS = ("openai", "ollama", "google")
GOOD = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}'


def assert_counts_sane(running: World) -> None:
    """Prometheus can read the metrics, and nothing in them is negative or not a number."""
    for family in text_string_to_metric_families(running.application.metrics.text().decode()):
        assert all(sample.value >= 0 for sample in family.samples)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["cookie", "hop", "te", "latin1", "interim", "many", "big"])
def test_upstream_headers_stay_behind_when_they_are_hostile(provider, stream, how):
    """R55 (3 of 10): cookies, framing echoes and floods of 1xx never reach the client; nor do hop-by-hop fields."""

    async def main() -> None:
        async with gateway() as running:
            answer = await chat(running.port, f"{provider}/sim.headers.how-{how}", stream=stream)
            assert answer.complete
            names = [name for name, _ in answer.fields]
            assert len(names) == len(set(names))
            if answer.status == 200:
                assert set(names) == (STREAM_HEADERS if stream else PLAIN_HEADERS)
                assert answer.text.startswith("[simulated]")
            else:
                assert how in ("te", "interim", "many", "big")
                assert (answer.status, answer.error["attempts"][0]["reason"]) == (503, "ProviderProtocolError")
                assert set(names) == ERROR_HEADERS
            assert b"session" not in answer.body
            assert_counts_sane(running)

    uvloop.run(main())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", [300, 301, 302, 303, 304, 307, 308])
def test_redirect_is_not_followed_when_it_points_inside(stream, code):
    """R55 (1 of 10): a redirect to a metadata address is an error; only the configured origins are opened."""

    async def main() -> None:
        async with gateway() as running:
            answer = await chat(running.port, f"openai/sim.redirect.code-{code}", stream=stream)
            assert answer.status == 503
            assert "location" not in answer.headers
            assert b"169.254" not in answer.body
            assert set(running.application.transport._pools) == {Origin("http", "127.0.0.1", running.simulator.port)}
            assert sum(entry.method == "POST" for entry in running.simulator.log) == 1

    uvloop.run(main())


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["html", "null", "usage.how-nan", "usage.how-negative", "type", "malformed.after-0"])
def test_body_is_an_error_or_harmless_when_it_is_hostile(provider, stream, fault):
    """R55 (5 of 10): HTML, wrong types, null choices, NaN and negative usage: typed errors, counts never negative."""

    async def main() -> None:
        async with gateway() as running:
            answer = await chat(running.port, f"{provider}/sim.{fault}", stream=stream)
            assert answer.complete
            if answer.status == 200 and stream:
                assert answer.events[-1] == "[DONE]"
                assert b"NaN" not in answer.body
            elif answer.status != 200:
                assert (answer.status, answer.error["attempts"][0]["reason"]) == (503, "ProviderProtocolError")
            assert b"<title>" not in answer.body
            assert_counts_sane(running)

    uvloop.run(main())


BAD_HEADS = {
    "a line break in a value": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: a\nSet-Cookie: b\r\n",
    "a bare CR": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: a\rSet-Cookie: b\r\n",
    "a NUL": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: a\0b\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: a\r\n Set-Cookie: b\r\n",
    "two types": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Type: text/html\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an early end": b"",
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_client_sees_no_upstream_header_when_a_head_is_broken(name):
    """R55 (1 of 10): line breaks in headers, NULs, another protocol: our own headers and a typed error or answer."""

    async def main() -> None:
        reply = answering(GOOD, BAD_HEADS[name]) if BAD_HEADS[name] else b""
        async with puppet(saying([reply])) as url, gateway(openai_base_url=url) as running:
            answer = await chat(running.port, "openai/any")
            assert answer.complete
            if answer.status == 200:
                assert {field for field, _ in answer.fields} == PLAIN_HEADERS
            else:
                assert (answer.status, answer.error["attempts"][0]["reason"]) == (503, "ProviderProtocolError")
            assert b"Set-Cookie" not in answer.body

    uvloop.run(main())


def test_next_client_gets_its_own_answer_when_an_upstream_says_two_at_once():
    """A second answer smuggled behind the first is given to nobody."""

    async def main() -> None:
        served = []

        async def play(reader, writer) -> None:
            while True:
                await request_of(reader)
                served.append(1)
                mine = GOOD.replace(b'"x"', b'"%d"' % len(served))
                writer.write(answering(mine) + answering(GOOD.replace(b'"x"', b'"smuggled"')))

        async with puppet(play) as url, gateway(openai_base_url=url) as running:
            texts = [(await chat(running.port, "openai/any")).text for _ in range(5)]
            assert "smuggled" not in texts
            assert len(set(texts)) == 5

    uvloop.run(main())


@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens":-5,"completion_tokens":-7,"total_tokens":-12}',
        b'{"prompt_tokens":1e400}',
        b'{"prompt_tokens":"7","completion_tokens":[]}',
        b'{"prompt_tokens":99999999999999999999999999}',
        b'"none"',
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_counts_stay_sane_when_usage_is_nonsense(usage, stream):
    """Negative, endless and misshaped usage: the answer stands, and the token counts never fall."""

    async def main() -> None:
        if stream:
            chunk = b'{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}],"usage":%b}' % usage
            reply = STREAM_HEAD + b"data: %b\n\ndata: [DONE]\n\n" % chunk
        else:
            reply = answering(GOOD[:-1] + b',"usage":%b}' % usage)
        async with puppet(saying([reply])) as url, gateway(openai_base_url=url) as running:
            answer = await chat(running.port, "openai/any", stream=stream)
            assert (answer.status, answer.text) == (200, "x")
            assert_counts_sane(running)

    uvloop.run(main())


def test_stream_is_refused_when_the_upstream_answers_whole():
    """An upstream that ignores `stream` and answers with JSON is a protocol error, not a broken stream."""

    async def main() -> None:
        async with puppet(saying([answering(GOOD)])) as url, gateway(openai_base_url=url) as running:
            answer = await (await begin_chat(running.port, "openai/any", stream=True)).whole()
            assert (answer.status, answer.error["attempts"][0]["reason"]) == (503, "ProviderProtocolError")

    uvloop.run(main())
