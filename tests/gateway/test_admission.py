"""A provider that is full: who waits for it, who goes on, and that no place is ever lost."""

import pytest
import uvloop

from mana_llm.settings import Secret
from tests.caller import Exchange, begin, begin_chat, body_for, chat, counted
from tests.gateway.seated import seats, until
from tests.world import World, gateway

PATH = "POST /v1/chat/completions"
HANGS = "ollama/sim.hang"
CHAIN = "aliases: {mana/any: {chain: [ollama/sim.ok, openai/sim.ok]}}\ndefault: mana/any\n"
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def asked(running: World, model: str) -> int:
    """How many chat requests for a model have reached its provider."""
    return sum(entry.method == "POST" and entry.model == model for entry in running.simulator.log)


async def filled(running: World, count: int) -> list[Exchange]:
    """So many requests that the local box does not answer; a connection lives as long as somebody holds it."""
    exchanges = [await begin_chat(running.port, HANGS) for _ in range(count)]
    await until(lambda: seats(running)[0] == count)
    return exchanges


@BOTH
def test_walk_goes_on_when_the_local_box_is_full(stream, tmp_path):
    """With its places taken, the next entry answers, and the metric says that the first was saturated."""

    async def main() -> None:
        async with gateway(CHAIN, tmp_path, ollama_max_concurrent=2, queue_s=0.05, drain_s=0.1) as running:
            held = await filled(running, 2)
            answer = await chat(running.port, "mana/any", stream=stream)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, "openai/sim.ok")
            assert answer.headers["x-mana-llm-attempts"] == "1"
            step = {"from_model": "ollama/sim.ok", "to_model": "openai/sim.ok", "reason": "saturated"}
            assert counted(running.application.metrics.text(), "mana_llm_fallback_total", **step) == 1
            assert seats(running) == (2, 0)
            assert not running.application.health.problems()
            held.clear()

    uvloop.run(main())


def test_client_learns_why_when_every_entry_is_full(tmp_path):
    """Where nobody has a place the client gets a 503 with Retry-After whose attempts say `saturated`."""

    async def main() -> None:
        limits = {"ollama_max_concurrent": 1, "max_concurrent": ("openai=1",), "queue_max": 0, "drain_s": 0.1}
        async with gateway(CHAIN, tmp_path, **limits) as running:
            held = [*await filled(running, 1), await begin_chat(running.port, "openai/sim.hang")]
            await until(lambda: running.application.admission.gates["openai"].in_flight == 1)
            answer = await chat(running.port, "mana/any")
            assert answer.status == 503
            assert [row["reason"] for row in answer.error["attempts"]] == ["saturated", "saturated"]
            assert int(answer.headers["retry-after"]) >= 1
            held.clear()

    uvloop.run(main())


@BOTH
def test_request_waits_and_is_answered_when_a_place_comes_free(stream):
    """The last entry of a chain is waited for: the request goes on when another ends."""

    async def main() -> None:
        async with gateway(ollama_max_concurrent=1, queue_s=0.01, drain_s=0.1) as running:
            (first,) = await filled(running, 1)
            waiting = await begin_chat(running.port, "ollama/sim.ok", stream=stream)
            await until(lambda: seats(running) == (1, 1))
            assert asked(running, "sim.ok") == 0
            first.close()
            assert (await waiting.whole()).status == 200
            await until(lambda: seats(running) == (0, 0))

    uvloop.run(main())


@BOTH
@pytest.mark.parametrize(
    "model",
    [
        "ollama/sim.ok",
        "ollama/sim.status.code-500",
        "ollama/sim.status.code-400",
        "ollama/sim.html",
        "ollama/sim.cut.after-1",
        "ollama/sim.malformed.after-0",
        "ollama/sim.empty",
        "ollama/sim.tools",
    ],
)
def test_place_is_free_again_when_a_request_ended(model, stream):
    """However an answer ends, its place is given back, once."""

    async def main() -> None:
        async with gateway(ollama_max_concurrent=1, health_failures=1000) as running:
            for _ in range(3):
                await chat(running.port, model, stream=stream)
                await until(lambda: seats(running) == (0, 0))

    uvloop.run(main())


@pytest.mark.parametrize("leave", [Exchange.close, Exchange.reset], ids=["closes", "resets"])
def test_place_is_free_again_when_clients_leave_at_any_moment(leave):
    """Clients that leave while they wait for a place, for a first token, or within a stream, take no place along."""

    async def main() -> None:
        async with gateway(ollama_max_concurrent=2, drain_s=0.1) as running:
            flows = [await begin_chat(running.port, "ollama/sim.ok.chunks-400.pace-0.02", stream=True)]
            await flows[0].until_events(2)
            hangs = [await begin_chat(running.port, HANGS, stream=True)]
            await until(lambda: seats(running)[0] == 2)
            waits = [await begin_chat(running.port, HANGS, stream=number % 2 == 0) for number in range(20)]
            await until(lambda: seats(running) == (2, 20))
            for exchange in (*waits[::2], *flows, *hangs, *waits[1::2]):
                leave(exchange)
            await until(lambda: seats(running) == (0, 0))
            assert (await chat(running.port, "ollama/sim.ok")).status == 200

    uvloop.run(main())


def test_interactive_goes_first_when_batch_work_came_before():
    """Of those that wait, interactive requests are served before batch work, whether a key or a header says so."""

    async def main() -> None:
        keys = {"api_keys": (Secret("desk"),), "batch_keys": (Secret("night"),)}
        async with gateway(ollama_max_concurrent=1, drain_s=0.1, **keys) as running:

            async def send(name: str, key: str, lane: str | None = None) -> Exchange:
                headers = {"X-Api-Key": key} | ({"X-Mana-LLM-Lane": lane} if lane else {})
                return await begin(running.port, PATH, body_for(f"ollama/sim.ok.bytes-{name}"), headers)

            first = await begin(running.port, PATH, body_for(HANGS), {"X-Api-Key": "desk"})
            await until(lambda: seats(running) == (1, 0))
            sent = [("1", "night"), ("2", "desk", "batch"), ("3", "night", "interactive"), ("4", "desk")]
            exchanges = []
            for number, row in enumerate(sent, 1):
                exchanges.append(await send(*row))
                await until(lambda number=number: seats(running) == (1, number))
            first.close()
            for exchange in exchanges:
                assert (await exchange.whole()).status == 200
            served = [entry.model[-1] for entry in running.simulator.log if "bytes" in entry.model]
            assert served == ["3", "4", "1", "2"]

    uvloop.run(main())


def test_callers_take_turns_when_one_sends_many():
    """A caller with one request is served after one of the other's, not after all of them."""

    async def main() -> None:
        keys = {"api_keys": (Secret("many"), Secret("one"))}
        async with gateway(ollama_max_concurrent=1, drain_s=0.1, **keys) as running:
            first = await begin(running.port, PATH, body_for(HANGS), {"X-Api-Key": "many"})
            await until(lambda: seats(running) == (1, 0))
            exchanges = []
            for number, key in enumerate(("many", "many", "many", "one"), 1):
                body = body_for(f"ollama/sim.ok.bytes-{number}")
                exchanges.append(await begin(running.port, PATH, body, {"X-Api-Key": key}))
                await until(lambda number=number: seats(running) == (1, number))
            first.close()
            for exchange in exchanges:
                assert (await exchange.whole()).status == 200
            served = [entry.model[-1] for entry in running.simulator.log if "bytes" in entry.model]
            assert served == ["1", "4", "2", "3"]

    uvloop.run(main())


def test_lane_is_refused_when_the_header_names_none():
    """An unknown lane is a 400 that names the header; nobody is asked."""

    async def main() -> None:
        async with gateway() as running:
            exchange = await begin(running.port, PATH, body_for("ollama/sim.ok"), {"X-Mana-LLM-Lane": "express"})
            answer = await exchange.whole()
            assert (answer.status, answer.error["code"]) == (400, "invalid_lane")
            assert "X-Mana-LLM-Lane" in answer.error["message"]
            assert asked(running, "sim.ok") == 0

    uvloop.run(main())
