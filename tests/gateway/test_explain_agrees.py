"""What is explained is what happens: in each state, explain is asked and then the request is really sent."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
import uvloop

from mana_llm.schema.errors import ProviderServerError
from mana_llm.settings import Secret
from tests.caller import Answer, Exchange, begin_chat, call, chat
from tests.gateway.seated import seats, until
from tests.world import World, gateway

ALIASES = """
aliases:
  mana/two: {chain: [openai/sim.ok, groq/sim.ok]}
  mana/hedged: {chain: [openai/sim.ok, groq/sim.ok], hedge_after_s: 5}
  mana/local: {chain: [ollama/sim.ok]}
  mana/brief: {chain: [ollama/sim.ok, groq/sim.ok], total_s: 0.1}
  mana/box: {chain: [ollama/sim.ok, openai/sim.ok]}
  mana/box-first: {chain: [ollama/sim.ok, openai/sim.ok], ttft_s: 0.05}
  mana/box-hedged: {chain: [ollama/sim.ok, openai/sim.ok], hedge_after_s: 0.1}
  mana/strict: {chain: [ollama/gemma3:1b, openai/sim.ok]}
  mana/no-tools: {chain: [ollama/gemma3:4b, openai/sim.ok]}
  mana/no-tools-soon: {chain: [ollama/gemma3:4b, openai/sim.ok], total_s: 0.3}
  mana/skips: {chain: [ollama/gemma3:1b, openai/sim.ok], on_incapable: skip}
  mana/falls: {chain: [ollama/gemma3:1b, openai/sim.ok], fallback_on: [ProviderCapabilityError]}
  mana/cloudy: {chain: [openai/sim.ok, ollama/gemma3:1b]}
  mana/blind: {chain: [ollama/gemma3:1b, ollama/gemma3:270m], on_incapable: skip}
  mana/seen: {chain: [groq/openai/gpt-oss-20b, openai/sim.ok], on_incapable: skip}
  mana/vectors: {kind: embeddings, chain: [openai/sim.ok, together/sim.ok]}
  mana/no-vectors: {kind: embeddings, chain: [groq/sim.ok, openai/sim.ok]}
  mana/any-vectors: {kind: embeddings, chain: [groq/sim.ok, openai/sim.ok], on_incapable: skip}
default: mana/two
"""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
TOOLS = [{"type": "function", "function": {"name": "any", "parameters": {"type": "object", "properties": {}}}}]
SEEN = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}]
FEATURES: dict[str, dict[str, Any]] = {"": {}, "tools": {"tools": TOOLS}, "image": {"messages": SEEN}}

State = Callable[[World], AbstractAsyncContextManager[None]]
OPENAI, GROQ, LOCAL = "openai/sim.ok", "groq/sim.ok", "ollama/sim.ok"
ASIDE = {"probe_interval_s": 0.0, "drain_s": 0.1}


@asynccontextmanager
async def well(running: World) -> AsyncIterator[None]:
    """Nothing is wrong."""
    yield


def resting(*providers: str) -> State:
    """These rest after failures."""

    @asynccontextmanager
    async def made(running: World) -> AsyncIterator[None]:
        for provider in providers:
            running.application.health.mark_unhealthy(provider, ProviderServerError("down"))
            running.application.health.mark_unhealthy(provider, ProviderServerError("down"))
        yield

    return made


@asynccontextmanager
async def probing(running: World) -> AsyncIterator[None]:
    """A rest is over, and nobody has found out yet."""
    running.application.health.mark_unhealthy("openai", ProviderServerError("down", retry_after_s=0.0))
    yield


@asynccontextmanager
async def on_trial(running: World) -> AsyncIterator[None]:
    """A rest is over, and somebody is finding out."""
    running.application.health.mark_unhealthy("openai", ProviderServerError("down", retry_after_s=0.0))
    finding_out = await begin_chat(running.port, "openai/sim.hang")
    await until(lambda: running.application.admission.gates["openai"].in_flight == 1)
    yield
    finding_out.close()


async def taken(running: World) -> Exchange:
    """A request that has the local box's only place, for more than a tenth of a second already."""
    holder = await begin_chat(running.port, "ollama/sim.hang")
    gate = running.application.admission.gates["ollama"]
    await until(lambda: gate.in_flight == 1 and gate.expected_wait_s() > 0.15)
    return holder


@asynccontextmanager
async def full(running: World) -> AsyncIterator[None]:
    """The local box's only place is taken."""
    holder = await taken(running)
    yield
    holder.close()


@asynccontextmanager
async def full_and_resting(running: World) -> AsyncIterator[None]:
    """The same, and nobody else can be asked."""
    async with resting("groq")(running), full(running):
        yield


def told_nothing(script: str) -> State:
    """The local box does not say what its models can do."""

    @asynccontextmanager
    async def made(running: World) -> AsyncIterator[None]:
        running.simulator.script(script, path="/api/show")
        yield

    return made


class Row(msgspec.Struct, frozen=True):
    """One state of things: the alias, the settings, what the request has, and what is to be said and to happen.

    `told` has each entry's decision and reason; `answers` is who answers, None with the `status` of an error.
    """

    alias: str
    told: tuple[str, ...]
    answers: str | None
    status: int = 200
    state: State = well
    feature: str = ""
    settings: dict[str, Any] = {}


KEPT = "kept"
UNCONFIGURED, RESTS, FULL = "skipped unconfigured", "skipped cache-unhealthy", "skipped saturated"
UNABLE, ENDS, WAITS, UNREACHED = "skipped capability", "ends ProviderCapabilityError", "waits", "unreached"
LATE, OFF, TOO_SLOW = "unreached deadline", "skipped ProviderConnectError", "skipped ProviderTimeoutError"
WENT_ON = "skipped ProviderCapabilityError"
ONE = {"ollama_max_concurrent": 1}
HASTY = {**ONE, "queue_s": 0.05}
ROWS = {
    "all is well": Row("mana/two", (KEPT, KEPT), OPENAI),
    "the alias hedges": Row("mana/hedged", (KEPT, KEPT), OPENAI),
    "a key is missing": Row("mana/two", (UNCONFIGURED, KEPT), GROQ, settings={"openai_api_key": Secret()}),
    "every key is missing": Row(
        "mana/two",
        (UNCONFIGURED, UNCONFIGURED),
        None,
        503,
        settings={"openai_api_key": Secret(), "groq_api_key": Secret()},
    ),
    "one rests": Row("mana/two", (RESTS, KEPT), GROQ, state=resting("openai")),
    "all rest": Row("mana/two", (RESTS, RESTS), None, 503, state=resting("openai", "groq")),
    "one rests and the alias hedges": Row("mana/hedged", (RESTS, KEPT), GROQ, state=resting("openai")),
    "a rest is over": Row("mana/two", (KEPT, KEPT), OPENAI, state=probing),
    "a trial is under way": Row("mana/two", (RESTS, KEPT), GROQ, state=on_trial),
    "a place comes too late": Row("mana/box", (WAITS, KEPT), OPENAI, state=full, settings=HASTY),
    "nobody may wait": Row("mana/box", (FULL, KEPT), OPENAI, state=full, settings={**ONE, "queue_max": 0}),
    "nobody waits any time": Row("mana/box", (FULL, KEPT), OPENAI, state=full, settings={**ONE, "queue_s": 0.0}),
    "nobody else is there": Row("mana/local", (FULL,), None, 503, state=full, settings={**ONE, "queue_max": 0}),
    "the first token would come too late": Row("mana/box-first", (FULL, KEPT), OPENAI, state=full, settings=ONE),
    "a hedge comes before the place": Row(
        "mana/box-hedged", (WAITS, KEPT), OPENAI, state=full, settings={**ONE, "queue_s": 5.0}
    ),
    "the walk's time is over before the place comes": Row(
        "mana/brief", (WAITS, LATE), None, 504, state=full_and_resting, settings=ONE
    ),
    "it cannot, and that is an error": Row("mana/strict", (ENDS, UNREACHED), None, 400, feature="image"),
    "it cannot, and is skipped": Row("mana/skips", (UNABLE, KEPT), OPENAI, feature="image"),
    "it cannot, and the alias falls back": Row("mana/falls", (WENT_ON, KEPT), OPENAI, feature="image"),
    "it has no tools, and that is an error": Row("mana/no-tools", (ENDS, UNREACHED), None, 400, feature="tools"),
    "it does not say whether it has tools": Row(
        "mana/no-tools", (ENDS, UNREACHED), None, 400, feature="tools", state=told_nothing("sim.status.code-500")
    ),
    "it does not say it in time": Row(
        "mana/no-tools-soon", (TOO_SLOW, LATE), None, 504, feature="tools", state=told_nothing("sim.hang")
    ),
    "it is not there to be asked": Row(
        "mana/no-tools", (OFF, KEPT), OPENAI, feature="tools", settings={"ollama_url": "http://127.0.0.1:1"}
    ),
    "nobody can": Row("mana/blind", (UNABLE, UNABLE), None, 503, feature="image"),
    "the catalogue knows": Row("mana/seen", (UNABLE, KEPT), OPENAI, feature="image"),
    "a later one cannot": Row("mana/cloudy", (KEPT, ENDS), OPENAI, feature="image"),
    "one rests and a later one cannot": Row(
        "mana/cloudy", (RESTS, ENDS), None, 400, feature="image", state=resting("openai")
    ),
    "it is full and cannot": Row(
        "mana/strict", (FULL, KEPT), OPENAI, feature="image", state=full, settings={**ONE, "queue_max": 0}
    ),
    "vectors are wanted": Row("mana/vectors", (KEPT, KEPT), OPENAI),
    "vectors are wanted of one that rests": Row(
        "mana/vectors", (RESTS, KEPT), "together/sim.ok", state=resting("openai")
    ),
    "it has no vectors, and that is an error": Row("mana/no-vectors", (ENDS, UNREACHED), None, 400),
    "it has no vectors, and is skipped": Row("mana/any-vectors", (UNABLE, KEPT), OPENAI),
}


async def explained(running: World, alias: str, feature: str = "") -> dict[str, Any]:
    answer = await call(running.port, f"GET /v1/aliases/{alias}/explain{'?' if feature else ''}{feature}")
    assert answer.status == 200, answer.body
    return answer.json


def told_of(explanation: dict[str, Any]) -> tuple[str, ...]:
    return tuple(" ".join(filter(None, (row["decision"], row["reason"]))) for row in explanation["chain"])


async def sent(running: World, row: Row, *, stream: bool) -> Answer:
    if "vectors" in row.alias:
        body = msgspec.json.encode({"model": row.alias, "input": "Hello"})
        return await call(running.port, "POST /v1/embeddings", body)
    return await chat(running.port, row.alias, stream=stream, **FEATURES[row.feature])


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_explanation_is_what_happens_when_the_request_is_sent(case, stream, tmp_path):
    """Each entry's decision is what the very next request meets, and who is said to answer answers."""
    row = ROWS[case]

    async def main() -> None:
        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(gateway(ALIASES, tmp_path, **{**ASIDE, **row.settings}))
            await stack.enter_async_context(row.state(running))
            query = row.feature if "vectors" in row.alias else "&".join(filter(None, (row.feature, stream * "stream")))
            explanation = await explained(running, row.alias, query)
            assert (told_of(explanation), explanation["answers"]) == (row.told, row.answers), explanation
            answer = await sent(running, row, stream=stream)
            assert answer.status == row.status, answer.body
            assert answer.headers.get("x-mana-llm-resolved") == row.answers
            if row.status == 503:
                reasons = [attempt["reason"] for attempt in answer.error["attempts"]]
                assert reasons == [entry["reason"] for entry in explanation["chain"]]

    uvloop.run(main())


def test_trial_is_explained_to_one_when_a_rest_is_over(tmp_path):
    """While a rest is over, explain says that the next request is let through; explaining takes nobody's trial, and
    once a request is finding out, the next one is told that it would pass by.
    """

    async def main() -> None:
        async with gateway(ALIASES, tmp_path, **ASIDE) as running:
            running.application.health.mark_unhealthy("openai", ProviderServerError("down", retry_after_s=0.0))
            for _ in range(2):
                first = (await explained(running, "mana/two"))["chain"][0]
                assert first["decision"] == "kept"
                assert "ProviderServerError" in first["detail"]
            finding_out = await begin_chat(running.port, "openai/sim.hang")
            await until(lambda: running.application.admission.gates["openai"].in_flight == 1)
            after = (await explained(running, "mana/two"))["chain"][0]
            assert (after["decision"], after["reason"]) == ("skipped", "cache-unhealthy")
            assert "trial" in after["detail"]
            finding_out.close()

    uvloop.run(main())


@pytest.mark.parametrize("alias", ["mana/local", "mana/box"])
def test_wait_is_explained_when_a_place_will_come_free(alias, tmp_path):
    """A full entry that is worth waiting for `waits`, with how long that is likely to take; the request does, and is
    answered by that entry.
    """

    async def main() -> None:
        async with gateway(ALIASES, tmp_path, queue_s=30.0, **ASIDE, **ONE) as running:
            holder = await taken(running)
            explanation = await explained(running, alias)
            first = explanation["chain"][0]
            assert (first["decision"], explanation["answers"]) == ("waits", LOCAL)
            assert 0.1 < first["expected_wait_s"] <= first["wait_s_max"]
            assert seats(running) == (1, 0)
            waiting = await begin_chat(running.port, alias)
            await until(lambda: seats(running) == (1, 1))
            holder.close()
            answer = await waiting.whole()
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, LOCAL)

    uvloop.run(main())


def test_wait_is_explained_to_the_end_when_the_model_cannot_do_it(tmp_path):
    """A full entry that cannot do what is asked ends the walk, once its place has come free."""

    async def main() -> None:
        async with gateway(ALIASES, tmp_path, queue_s=30.0, **ASIDE, **ONE) as running:
            holder = await taken(running)
            explanation = await explained(running, "mana/strict", "image")
            assert (told_of(explanation), explanation["answers"]) == ((ENDS, UNREACHED), None)
            assert explanation["chain"][0]["expected_wait_s"] > 0.1
            waiting = await begin_chat(running.port, "mana/strict", messages=SEEN)
            await until(lambda: seats(running) == (1, 1))
            holder.close()
            assert (await waiting.whole()).status == 400

    uvloop.run(main())
