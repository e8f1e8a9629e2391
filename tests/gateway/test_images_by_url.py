"""Images by URL, from a client's request to what the provider sees."""

import asyncio
import ssl
from base64 import b64encode
from contextlib import asynccontextmanager

import pytest
import uvloop

from mana_llm.schema.errors import ProviderServerError
from tests.caller import begin_chat, chat, counted
from tests.upstream.peer import nothing, serving, until
from tests.world import gateway

trustme = pytest.importorskip("trustme")

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
BASE64 = b64encode(PNG).decode()
IMAGE = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n%b" % (len(PNG), PNG)
TWO = "aliases: {mana/two: {chain: [openai/sim.status.code-500, ollama/gemma3:4b]}}\ndefault: mana/two\n"


def seen(*urls):
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]


@pytest.fixture(scope="module")
def authority():
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture
def pictures(authority, tmp_path, monkeypatch):
    """A TLS server of images on this machine, whose authority the gateway trusts as an operator would have it."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    @asynccontextmanager
    async def listening(answer=IMAGE):
        async with serving(answer, ssl=context) as peer:
            yield peer, f"https://localhost:{peer.port}/a.png?token=s3cret"

    return listening


def posted(running):
    """The chats that the simulated providers were asked for."""
    return [entry for entry in running.simulator.log if entry.method == "POST" and not entry.path.endswith("/show")]


@pytest.mark.parametrize("stream", [False, True])
def test_image_arrives_as_bytes_when_the_provider_takes_no_url(pictures, stream):
    """Where private addresses are allowed, Ollama gets the base64 and Gemini inlineData; both answer."""

    async def main():
        async with pictures() as (peer, url), gateway(fetch_private=True) as running:
            for model in ("ollama/gemma3:4b", "google/gemini-3.5-flash-lite"):
                answer = await chat(running.port, model, messages=seen(url), stream=stream)
                assert (answer.status, answer.text[:11]) == (200, "[simulated]")
            ollama, gemini = (entry.body for entry in posted(running))
            assert ollama["messages"][0]["images"] == [BASE64]
            inline = {"inlineData": {"mimeType": "image/png", "data": BASE64}}
            assert inline in gemini["contents"][0]["parts"]
            assert len(peer.requests) == 2

    uvloop.run(main())


def test_url_passes_when_the_provider_fetches_it_itself(pictures):
    """OpenAI's API takes URLs: the gateway fetches nothing."""

    async def main():
        async with pictures() as (peer, url), gateway(fetch_private=True) as running:
            assert (await chat(running.port, "openai/gpt-4o", messages=seen(url))).status == 200
            assert posted(running)[0].body["messages"] == seen(url)
            assert not peer.connections

    uvloop.run(main())


@pytest.mark.parametrize("model", ["ollama/gemma3:4b", "google/gemini-3.5-flash-lite"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_image_is_refused_when_its_address_is_private(pictures, model, host):
    """By default a private address is a 400 that says what to do: no connection, no call, no harm to health."""

    async def main():
        async with pictures() as (peer, url), gateway(health_failures=1) as running:
            # On port 443 it is the address that is judged, on any other the port.
            for private in (url.replace("localhost", host), f"https://{host}/a.png"):
                answer = await chat(running.port, model, messages=seen(private))
                assert (answer.status, answer.error["param"]) == (400, "messages")
                assert answer.headers["x-mana-llm-attempts"] == "0"
                assert answer.error["code"] == "invalid_image_url"
                assert "data: URI" in answer.error["message"]
                assert b"s3cret" not in answer.body
            assert not peer.connections
            unharmed(running)

    uvloop.run(main())


def unharmed(running):
    """No provider was asked, none is worse for it, and no trial is held."""
    text = running.application.metrics.text()
    assert counted(text, "mana_llm_llm_requests_total") == 0
    assert not posted(running)
    assert not running.application.health.problems()
    assert all(not breaker.failures for breaker in running.application.health._breakers.values())


def test_fallback_fetches_when_the_first_entry_did_not_have_to(pictures, tmp_path):
    """OpenAI fails with the URL in hand, and Ollama answers with the bytes."""

    async def main():
        async with pictures() as (peer, url), gateway(TWO, tmp_path, fetch_private=True) as running:
            answer = await chat(running.port, "mana/two", messages=seen(url))
            assert answer.headers["x-mana-llm-resolved"] == "ollama/gemma3:4b"
            assert answer.headers["x-mana-llm-attempts"] == "2"
            assert posted(running)[1].body["messages"][0]["images"] == [BASE64]
            assert len(peer.requests) == 1

    uvloop.run(main())


def test_refusal_counts_who_was_asked_when_an_entry_came_before(tmp_path):
    """OpenAI was asked and failed, Ollama was not: the client's own mistake is told, with one attempt."""

    async def main():
        async with gateway(TWO, tmp_path) as running:
            answer = await chat(running.port, "mana/two", messages=seen("https://127.0.0.1/a.png"))
            assert (answer.status, answer.error["code"]) == (400, "invalid_image_url")
            assert answer.headers["x-mana-llm-attempts"] == "1"
            assert counted(running.application.metrics.text(), "mana_llm_llm_requests_total", provider="ollama") == 0

    uvloop.run(main())


def test_walk_ends_in_time_when_an_image_never_comes(pictures):
    """The walk's own deadline rules the fetch: a 504, and the provider, which was not asked, is unharmed."""

    async def main():
        limits = {"fetch_private": True, "total_s": 0.3, "health_failures": 1}
        async with pictures(nothing) as (peer, url), gateway(**limits) as running:
            answer = await chat(running.port, "ollama/gemma3:4b", messages=seen(url))
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
            assert answer.headers["x-mana-llm-attempts"] == "0"
            assert "images were fetched" in answer.error["attempts"][0]["detail"]
            await asyncio.wait_for(peer.connections[0].gone, 5)
            unharmed(running)

    uvloop.run(main())


def test_fetch_is_cut_when_the_client_leaves(pictures):
    """A client that leaves while its image is fetched leaves no connection behind."""

    async def main():
        async with pictures(nothing) as (peer, url), gateway(fetch_private=True) as running:
            exchange = await begin_chat(running.port, "ollama/gemma3:4b", messages=seen(url))
            await until(lambda: peer.requests)
            exchange.close()
            await asyncio.wait_for(peer.connections[0].gone, 5)
            await until(lambda: counted(running.application.metrics.text(), "mana_llm_cancelled_total") == 1)
            unharmed(running)

    uvloop.run(main())


@pytest.mark.parametrize(
    ("model", "fields", "code"),
    [
        # Asked of the model itself (/api/show), of its name alone, of the API; and a request that cannot be read.
        ("ollama/qwen2.5:7b", {"messages": seen(f"data:image/png;base64,{BASE64}")}, "provider_capability"),
        ("ollama/gemma3:4b", {"modalities": ["audio"]}, "provider_capability"),
        ("ollama/gemma3:4b", {"messages": seen("file:///etc/passwd")}, None),
        ("google/gemini-3.5-flash-lite", {"messages": seen("https://127.0.0.1/")}, "invalid_image_url"),
        ("google/gemini-3.5-flash-lite", {"messages": [{"role": "user", "content": 5}]}, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_provider_is_unharmed_when_it_was_not_asked(model, fields, code, stream):
    """What is refused before anything is sent is no call, no failure, and gives a resting provider's trial back."""

    async def main():
        async with gateway(health_failures=1, health_backoff_s=0.0) as running:
            for _ in range(3):
                answer = await chat(running.port, model, stream=stream, **fields)
                assert (answer.status, answer.error["code"]) == (400, code)
                assert answer.headers["x-mana-llm-attempts"] == "0"
            unharmed(running)
            # After a failure whose back-off is over, exactly one request is the trial.
            provider = model.partition("/")[0]
            running.application.health.mark_unhealthy(provider, ProviderServerError("made up"))
            for _ in range(3):
                answer = await chat(running.port, model, stream=stream, **fields)
                assert (answer.status, answer.error["code"]) == (400, code)
            assert (await chat(running.port, model, stream=stream)).status == 200
            assert running.application.health.is_healthy(provider)

    uvloop.run(main())
