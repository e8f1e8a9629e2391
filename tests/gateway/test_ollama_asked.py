"""Ollama before a request: what is asked of it first, what becomes of the request when it is down, and its time."""

import socket

import pytest

from tests import jumping
from tests.caller import chat, counted
from tests.world import gateway

ALIASES = "aliases: {mana/two: {chain: ['%s', groq/sim.ok]}}\ndefault: mana/two\n"
TOOLS = [{"type": "function", "function": {"name": "time"}}]
# A name that no list of families knows.
UNHEARD = "ollama/unheard-of:1b"
SHORT_S = 0.3


def closed_port():
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("stream", [False, True])
def test_walk_goes_on_when_the_model_cannot_be_asked_about(stream, tmp_path):
    """Ollama is down: the next entry answers, health and the metrics learn of a call that failed."""

    async def main():
        down = f"http://127.0.0.1:{closed_port()}"
        async with gateway(ALIASES % UNHEARD, tmp_path, ollama_url=down) as running:
            answer = await chat(running.port, "mana/two", stream=stream, tools=TOOLS)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, "groq/sim.ok")
            assert answer.headers["x-mana-llm-attempts"] == "2"
            text = running.application.metrics.text()
            failed = {"provider": "ollama", "status": "ProviderConnectError"}
            assert counted(text, "mana_llm_llm_requests_total", **failed) == 1
            assert running.application.health._breakers["ollama"].failures == 1
            direct = await chat(running.port, UNHEARD, stream=stream, tools=TOOLS)
            assert (direct.status, direct.error["attempts"][0]["reason"]) == (503, "ProviderConnectError")

    jumping.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_name_decides_when_the_server_has_no_word_on_the_model(stream):
    """Ollama answers, but not what was asked: a model that nobody knows to call tools is a 400."""

    async def main():
        async with gateway() as running:
            running.simulator.script("sim.status.code-404", path="/api/show")
            answer = await chat(running.port, UNHEARD, stream=stream, tools=TOOLS)
            assert (answer.status, answer.error["code"]) == (400, "provider_capability")

    jumping.run(main())


def test_stream_is_left_when_its_first_token_takes_longer_than_ollama_timeout(tmp_path):
    """OLLAMA_TIMEOUT is the limit on a stream's first token: a model that loads too long loses its turn."""

    async def main():
        async with gateway(ALIASES % "ollama/sim.hang", tmp_path, ollama_timeout=SHORT_S) as running:
            answer = await chat(running.port, "mana/two", stream=True)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, "groq/sim.ok")
            failed = {"provider": "ollama", "status": "ProviderTimeoutError"}
            assert counted(running.application.metrics.text(), "mana_llm_llm_requests_total", **failed) == 1

    jumping.run(main())


def test_plain_answer_may_take_longer_when_only_ollama_timeout_is_set():
    """A plain answer's head comes with its whole body: OLLAMA_TIMEOUT does not limit it."""

    async def main():
        async with gateway(ollama_timeout=SHORT_S / 2) as running:
            answer = await chat(running.port, f"ollama/sim.ok.first-{SHORT_S}", stream=False)
            assert answer.status == 200

    jumping.run(main())


def test_plain_answer_is_left_when_a_limit_of_its_own_is_set(tmp_path):
    """MANA_LLM_TTFT_S limits plain answers too, and goes before OLLAMA_TIMEOUT."""

    async def main():
        async with gateway(ALIASES % "ollama/sim.hang", tmp_path, ttft_s=SHORT_S, ollama_timeout=60.0) as running:
            for stream in (False, True):
                answer = await chat(running.port, "mana/two", stream=stream)
                assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, "groq/sim.ok")

    jumping.run(main())
