"""What the headers of a model route's answer say of its way, whatever the answer is."""

import asyncio
import re

import pytest
import uvloop

from tests.caller import begin_chat, call, chat
from tests.gateway.staged import failing, stage, streamed, until, whole
from tests.world import gateway

NUMBER = r"\d+\.\d\d"
TIMING = re.compile(
    rf"queue;dur=({NUMBER}), connect;dur=({NUMBER}), first-token;dur=({NUMBER})(, gateway;dur={NUMBER})?"
)
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def timing(answer) -> tuple[float, float, float]:
    """Milliseconds in the queue, connecting, and waiting for the first token."""
    found = TIMING.fullmatch(answer.headers["server-timing"])
    assert found, answer.headers["server-timing"]
    return float(found[1]), float(found[2]), float(found[3])


@BOTH
def test_answer_tells_its_way_when_a_fallback_gave_it(stream, tmp_path):
    """Server-Timing, attempts, config and cache on plain and streamed answers; the waits of both entries are in it."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchange = await begin_chat(on.port, "mana/three", stream=stream)
            on.actors[0].say(failing(503))
            await asyncio.wait_for(on.actors[1].asked.wait(), 5)
            await asyncio.sleep(0.05)
            on.actors[1].say(streamed("a") if stream else whole("a"))
            answer = await exchange.whole()
            queue_ms, _, first_ms = timing(answer)
            assert "gateway;dur=" in answer.headers["server-timing"]
            assert queue_ms == 0.0
            assert first_ms >= 45
            assert answer.headers["x-mana-llm-attempts"] == "2"
            assert answer.headers["x-mana-llm-config"] == on.running.application.aliases.version
            assert answer.headers["x-mana-llm-cache"] == "off"

    uvloop.run(main())


ERRORS = {
    "openai/sim.status.code-503": (503, "1"),
    "openai/sim.status.code-429": (429, "1"),
    "openai/sim.status.code-400": (400, "1"),
    "openai/sim.status.code-401": (502, "1"),
    "google/sim.filter": (422, "1"),
    "google/sim.length": (502, "1"),
    "mana/unknown": (404, "0"),
}


@BOTH
@pytest.mark.parametrize("model", ERRORS)
def test_error_tells_its_way_when_a_model_was_asked(model, stream):
    """Every error of a model route has the same headers, with how many providers were really asked."""

    async def main() -> None:
        async with gateway() as running:
            answer = await chat(running.port, model, stream=stream)
            timing(answer)
            assert (answer.status, answer.headers["x-mana-llm-attempts"]) == ERRORS[model]
            assert answer.headers["x-mana-llm-config"] == running.application.aliases.version
            assert answer.headers["x-mana-llm-cache"] == "off"
            assert answer.headers["x-request-id"]
            assert "x-mana-llm-resolved" not in answer.headers

    uvloop.run(main())


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"model": "ollama/nomic-embed-text", "input": "a"}', 200), (b'{"input": "a"}', 400), (b"{", 400)],
)
def test_embeddings_tell_their_way_when_asked(body, status):
    """Embeddings have the headers of any model route, refusals of the body included."""

    async def main() -> None:
        async with gateway() as running:
            answer = await call(running.port, "POST /v1/embeddings", body)
            timing(answer)
            assert (answer.status, answer.headers["x-mana-llm-attempts"]) == (status, str(int(status == 200)))

    uvloop.run(main())


def test_timing_has_the_wait_for_a_place_when_there_was_one(tmp_path):
    """`queue` is the time that a request waited because its provider was full."""

    async def main() -> None:
        async with stage(tmp_path, max_concurrent=("openai=1",)) as on:
            held = await begin_chat(on.port, "openai/any")
            waiting = await begin_chat(on.port, "openai/any")
            gate = on.running.application.admission.gates["openai"]
            await until(lambda: gate.waiting == 1)
            on.actors[0].say(whole("first"))
            on.actors[0].say(whole("second"))
            await held.whole()
            queue_ms, _, _ = timing(await waiting.whole())
            assert queue_ms > 0

    uvloop.run(main())
