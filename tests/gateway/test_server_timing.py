"""`Server-Timing` on every answer: what is known of where the time went, whatever is answered."""

import asyncio
import re

import pytest
import uvloop

from mana_llm.settings import Secret
from tests.caller import begin_chat, body_for, call, chat
from tests.gateway.staged import failing, stage, streamed, whole
from tests.world import gateway

GATEWAY = re.compile(r"gateway;dur=(\d+\.\d\d)")
WALK = re.compile(r"queue;dur=\d+\.\d\d, connect;dur=\d+\.\d\d, first-token;dur=(\d+\.\d\d), gateway;dur=(\d+\.\d\d)")
CHAT = "POST /v1/chat/completions"
KEY = {"Authorization": "Bearer right"}
ROUTES = {
    "GET /health": 200,
    "GET /livez": 200,
    "GET /readyz": 200,
    "HEAD /v1/models": 200,
    "GET /metrics": 200,
    "GET /v1/health": 200,
    "GET /v1/models": 200,
    "GET /v1/models/mana/fast-text": 200,
    "GET /v1/models/none": 404,
    "GET /v1/aliases": 200,
    "GET /v1/aliases/mana/fast-text/explain": 200,
    "GET /v1/aliases/mana/none/explain": 404,
    "POST /v1/aliases/reload": 200,
    "GET /nowhere": 404,
    "OPTIONS /v1/models": 204,
    "OPTIONS /v1/chat/completions": 204,
    "PUT /v1/models": 405,
}


@pytest.mark.parametrize("head", ROUTES)
def test_answer_tells_our_time_when_no_model_is_asked(head):
    """Every route that walks no chain says what the gateway took, and says it once."""

    async def main() -> None:
        async with gateway(gpu_api_key=Secret("right")) as running:
            answer = await call(running.port, head, headers=KEY)
            assert answer.status == ROUTES[head]
            assert [name for name, _ in answer.fields].count("server-timing") == 1
            assert GATEWAY.fullmatch(answer.headers["server-timing"])

    uvloop.run(main())


REFUSED = {
    "no key": (401, {}, body_for("openai/sim")),
    "no JSON": (415, {**KEY, "Content-Type": "text/csv"}, body_for("openai/sim")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_tells_our_time_when_a_model_route_refuses(case):
    """What is refused before a model is looked for has the gateway's time as well."""
    status, headers, body = REFUSED[case]

    async def main() -> None:
        async with gateway(gpu_api_key=Secret("right")) as running:
            answer = await call(running.port, CHAT, body, headers)
            assert answer.status == status
            assert GATEWAY.fullmatch(answer.headers["server-timing"])

    uvloop.run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_error_tells_our_time_when_a_walk_failed(stream, tmp_path):
    """An error of a walk has the gateway's own time, without what was spent on waiting for providers."""

    async def main() -> None:
        async with stage(tmp_path, chain=("openai/any",)) as on:
            exchange = await begin_chat(on.port, "mana/three", stream=stream)
            await asyncio.wait_for(on.actors[0].asked.wait(), 5)
            await asyncio.sleep(0.1)
            on.actors[0].say(failing(400))
            answer = await exchange.whole()
            found = WALK.fullmatch(answer.headers["server-timing"])
            assert found, answer.headers["server-timing"]
            assert float(found[1]) >= 90
            assert float(found[2]) < 90

    uvloop.run(main())


def test_answer_has_the_same_parts_when_it_is_good(tmp_path):
    """A good answer has them all, too."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            on.actors[0].say(whole("a"))
            answer = await chat(on.port, "mana/three")
            assert WALK.fullmatch(answer.headers["server-timing"])

    uvloop.run(main())


def test_early_head_tells_what_is_known_when_a_stream_is_begun_softly(tmp_path):
    """A head that leaves before anybody has answered tells the queue and the gateway so far, no provider's wait."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=0.1) as on:
            exchange = await begin_chat(on.port, "mana/three", stream=True)
            await exchange.until_events(1)
            on.actors[0].say(streamed("a"))
            answer = await exchange.whole()
            found = re.fullmatch(r"queue;dur=0\.00, gateway;dur=(\d+\.\d\d)", answer.headers["server-timing"])
            assert found, answer.headers["server-timing"]
            assert float(found[1]) < 100

    uvloop.run(main())
