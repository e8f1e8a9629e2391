"""What somebody meets who sets things up for the first time, or gets a setting wrong."""

import json
import time

import pytest
import uvloop

from mana_llm import create_app
from mana_llm.kit.breaker import GRANTED
from mana_llm.routing.health import HealthPolicy, ProviderHealthCache
from mana_llm.schema.errors import ProviderRateLimitError
from mana_llm.settings import SettingsError, load
from tests.caller import call
from tests.world import gateway


async def status_of(app, path: str) -> int:
    """What an ASGI application answers to a GET without a key."""
    sent = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"here")], "http_version": "1.1"}
    await app(scope, receive, send)
    return sent[0]["status"]


def test_application_asks_for_the_key_when_the_environment_sets_one(monkeypatch, tmp_path):
    """An application made without settings reads them where `mana-llm serve` does, caller keys included."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("GPU_API_KEY=secret\n", encoding="utf-8")
    assert uvloop.run(status_of(create_app(), "/metrics")) == 401


@pytest.mark.parametrize("text", [b"\xff\xfe", b"OPENAI_API_KEY=\xc3\x28"])
def test_settings_file_is_refused_when_it_is_not_utf8(tmp_path, text):
    """A `.env` that is not UTF-8 is a clear end, not a traceback."""
    (tmp_path / ".env").write_bytes(text)
    with pytest.raises(SettingsError, match="not UTF-8"):
        load({}, tmp_path / ".env")


def test_key_is_refused_when_it_would_break_a_header():
    """A provider's key with a line break within stops the start, since it would end a header."""
    with pytest.raises(SettingsError, match="GROQ_API_KEY"):
        load({"GROQ_API_KEY": "abc\r\nX-Evil: 1"})


def test_probes_are_not_counted_when_they_ask():
    """Probes and scrapes are no client requests, and a scrape does not count itself as under way."""

    async def main() -> None:
        async with gateway() as running:
            for path in ("/livez", "/readyz", "/health", "/metrics"):
                assert (await call(running.port, f"GET {path}")).status == 200
            text = (await call(running.port, "GET /metrics")).body.decode()
        assert "mana_llm_in_flight 0.0" in text
        assert "mana_llm_requests_total{" not in text
        assert "mana_llm_request_duration_seconds_count 0.0" in text

    uvloop.run(main())


def test_rest_goes_on_when_an_older_request_succeeds():
    """An answer that was begun before a provider asked for a rest does not end the rest."""

    class Clock:
        now_s = staticmethod(time.monotonic)
        wall_s = staticmethod(time.time)

    health = ProviderHealthCache(["lab"], HealthPolicy(2, 60.0, lambda: 1.0), Clock())
    older = health.take("lab")
    health.mark_unhealthy("lab", ProviderRateLimitError("later", retry_after_s=30.0), GRANTED)
    health.mark_healthy("lab", older)
    assert not health.is_healthy("lab")


def test_embeddings_end_in_time_when_they_take_many_calls():
    """All the calls of one request for embeddings share the walk's time."""

    async def main() -> None:
        async with gateway(total_s=0.5) as running:
            running.simulator.script("sim.ok.first-0.2", path="batchEmbedContents")
            body = json.dumps({"model": "google/gemini-embedding-001", "input": ["x"] * 500}).encode()
            answer = await call(running.port, "POST /v1/embeddings", body)
            assert answer.status == 504

    uvloop.run(main())
