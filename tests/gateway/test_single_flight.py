"""Identical requests that are under way together share one upstream call, at the real gateway."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
import uvloop

from mana_llm.settings import Secret
from tests.caller import Answer, Exchange, begin, begin_chat, body_for, call
from tests.gateway.staged import Stage, failing, stage, until, whole
from tests.logged import logged
from tests.puppet import answer
from tests.world import World, gateway

PATH = "POST /v1/chat/completions"
DIRECT = "openai/any"
ALIASES = "aliases: {mana/one: {chain: [openai/sim.ok.first-1.5]}}\ndefault: mana/one\n"
SLOW = "aliases: {mana/one: {chain: [openai/sim.ok.first-8]}}\ndefault: mana/one\n"


def posts(running: World) -> list[Any]:
    """What the simulated providers were asked, lists of models left out."""
    return [entry for entry in running.simulator.log if entry.method == "POST"]


async def same(on: Stage, body: bytes = body_for(DIRECT, temperature=0), **headers: str) -> Exchange:
    """Send a request, and wait until the gateway has it."""
    there = on.count("mana_llm_in_flight")
    exchange = await begin(on.port, PATH, body, headers)
    await until(lambda: on.count("mana_llm_in_flight") == there + 1)
    return exchange


def told(answer: Answer) -> tuple[int, str, str]:
    """An answer's status, and what its headers say of cache and attempts."""
    return answer.status, answer.headers["x-mana-llm-cache"], answer.headers["x-mana-llm-attempts"]


async def asks_together(folder, aliases: str, count: int) -> None:
    """So many ask the same; one call is made, everybody is answered, and nothing is counted twice."""
    async with gateway(aliases, folder) as running:
        asked = [begin_chat(running.port, "mana/one", temperature=0) for _ in range(count)]
        exchanges = await asyncio.gather(*asked)
        answers = await asyncio.gather(*(exchange.whole() for exchange in exchanges))
        assert len(posts(running)) == 1
        assert {each.status for each in answers} == {200}
        assert len({each.text for each in answers}) == 1
        assert len({each.headers["x-request-id"] for each in answers}) == count
        assert {each.headers["x-mana-llm-resolved"] for each in answers} == {each.json["model"] for each in answers}
        assert sorted(told(each) for each in answers) == [(200, "hit", "0")] * (count - 1) + [(200, "miss", "1")]
        on = Stage(running, [])
        await until(on.quiet)
        assert on.count("mana_llm_requests_total", model="mana/one", status="200") == count
        assert on.count("mana_llm_llm_requests_total") == 1
        assert on.count("mana_llm_alias_resolved_total", alias="mana/one") == count
        assert on.count("mana_llm_cache_requests_total", result="hit") == count - 1
        assert on.count("mana_llm_cache_requests_total", result="miss") == 1
        assert on.count("mana_llm_tokens_total", type="input") == answers[0].json["usage"]["prompt_tokens"]


def test_upstream_is_called_once_when_many_ask_the_same(tmp_path):
    """R29 (200 of 1,000): identical requests at temperature 0 that are under way together make one upstream call; each
    gets the whole answer, and tokens are counted once.
    """
    uvloop.run(asks_together(tmp_path, ALIASES, 200))


@pytest.mark.long
def test_upstream_is_called_once_when_a_thousand_ask_the_same(tmp_path):
    """R29 (1,000 of 1,000): the same for a thousand."""
    uvloop.run(asks_together(tmp_path, SLOW, 1_000))


async def leaders_leave(folder, count: int) -> None:
    """So many ask the same, and one leader after the other leaves."""
    async with gateway(ALIASES.replace("sim.ok.first-1.5", "gpt-5-mini"), folder) as running:
        on = Stage(running, [])
        running.simulator.script("sim.hang", path="/chat/completions", times=4)
        body = body_for("mana/one", temperature=0)
        # One after the other, so that it is known who walks next.
        leaders = [await same(on, body) for _ in range(4)]
        others = await asyncio.gather(*(begin(running.port, PATH, body) for _ in range(count - 4)))
        await until(lambda: on.count("mana_llm_in_flight") == count)
        for number, leader in enumerate(leaders, 1):
            await until(lambda number=number: len(posts(running)) == number)
            (leader.reset if number % 2 else leader.close)()
            await until(lambda number=number: len(posts(running)) == number + 1)
        answers = await asyncio.gather(*(exchange.whole() for exchange in others))
        assert sorted(told(each) for each in answers) == [(200, "hit", "0")] * (count - 5) + [(200, "miss", "1")]
        calls = posts(running)
        assert [call.ended for call in calls] == ["client-closed"] * 4 + ["complete"]
        # The next call only comes when the one before it has been let go.
        assert all(before.closed_at <= after.received_at for before, after in pairwise(calls))
        await until(on.quiet)
        assert on.count("mana_llm_llm_requests_total", status="cancelled") == 4
        assert on.count("mana_llm_llm_requests_total") == 5
        assert on.count("mana_llm_requests_total", status="499") == 4


def test_one_call_lives_when_leader_after_leader_leaves(tmp_path):
    """R29 (200 of 1,000): when the client leaves whose request is walked for, another's is: never more than one live
    call, and everybody who stays is answered.
    """
    uvloop.run(leaders_leave(tmp_path, 200))


@pytest.mark.long
def test_one_call_lives_when_leaders_of_a_thousand_leave(tmp_path):
    """R29 (1,000 of 1,000): the same for a thousand."""
    uvloop.run(leaders_leave(tmp_path, 1_000))


def test_answer_comes_when_other_followers_leave(tmp_path):
    """A follower that leaves takes nobody along, and the call goes on."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            first, second, third = [await same(on) for _ in range(3)]
            second.reset()
            await until(lambda: on.count("mana_llm_in_flight") == 2)
            on.actors[0].say(whole("hello"))
            assert [(await each.whole()).text for each in (first, third)] == ["hello"] * 2
            assert on.actors[0].asked_count == 1
            await until(on.quiet)
            assert on.count("mana_llm_requests_total", status="499") == 1

    uvloop.run(main())


def test_call_ends_when_everybody_leaves(tmp_path):
    """With the last client the upstream is let go."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchanges = [await same(on) for _ in range(3)]
            for each in exchanges:
                each.reset()
            await until(on.quiet)
            await until(lambda: not on.actors[0].here)
            assert on.count("mana_llm_requests_total", status="499") == 3

    uvloop.run(main())


PLAIN = body_for(DIRECT, temperature=0)
ALONE: dict[str, tuple[bytes, dict[str, str]]] = {
    "no-store": (PLAIN, {"Cache-Control": "no-store"}),
    "no-cache": (PLAIN, {"cache-control": "max-age=0, No-Cache"}),
    "stream": (body_for(DIRECT, stream=True, temperature=0), {}),
    "warm": (body_for(DIRECT, temperature=0.2), {}),
    "no temperature": (body_for(DIRECT), {}),
    "two choices": (body_for(DIRECT, temperature=0, n=2), {}),
    "stored": (body_for(DIRECT, temperature=0, store=True), {}),
}


@pytest.mark.parametrize("kind", ALONE)
def test_nothing_is_shared_when_a_request_cannot_be(kind, tmp_path):
    """Streams, chance, stored completions, and clients that want an answer of their own: a call for each."""
    body, headers = ALONE[kind]

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchanges = [await same(on, body, **headers) for _ in range(2)]
            await until(lambda: on.actors[0].asked_count == 2)
            on.actors[0].say(failing(400), failing(400), end=False)
            assert [told(await each.whole()) for each in exchanges] == [(400, "off", "1")] * 2
            assert on.count("mana_llm_cache_requests_total") == 0

    uvloop.run(main())


def test_nothing_is_shared_when_the_setting_says_so(tmp_path):
    """`MANA_LLM_SINGLE_FLIGHT=false`: a call for each."""

    async def main() -> None:
        async with stage(tmp_path, single_flight=False) as on:
            exchanges = [await same(on) for _ in range(2)]
            await until(lambda: on.actors[0].asked_count == 2)
            on.actors[0].say(whole("hello"), whole("hello"), end=False)
            assert [told(await each.whole()) for each in exchanges] == [(200, "off", "1")] * 2

    uvloop.run(main())


DIFFERENT = {
    "member": (body_for(DIRECT, temperature=0, max_tokens=7), "one"),
    "seed": (body_for(DIRECT, temperature=0, seed=7), "one"),
    "caller": (PLAIN, "two"),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_nothing_is_shared_when_requests_differ(kind, tmp_path):
    """R60 (2 of 2): what one key asks is never answered by another key's call, nor is another question."""
    body, key = DIFFERENT[kind]

    async def main() -> None:
        async with stage(tmp_path, api_keys=(Secret("one"), Secret("two"))) as on:
            first = await same(on, Authorization="Bearer one")
            second = await same(on, body, Authorization=f"Bearer {key}")
            await until(lambda: on.actors[0].asked_count == 2)
            on.actors[0].say(whole("hello"), whole("hello"), end=False)
            assert [told(await each.whole()) for each in (first, second)] == [(200, "miss", "1")] * 2

    uvloop.run(main())


def test_answer_is_shared_when_members_come_in_another_order(tmp_path):
    """The order of members makes no other question."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            first = await same(on)
            second = await same(on, json.dumps(dict(reversed(json.loads(PLAIN).items()))).encode())
            on.actors[0].say(whole("hello"))
            assert [told(await each.whole())[1] for each in (first, second)] == ["miss", "hit"]

    uvloop.run(main())


def test_error_is_shared_when_the_call_fails(tmp_path):
    """Everybody gets the same error with the attempts of the one walk; nobody asks again."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchanges = [await same(on, body_for("mana/three", temperature=0)) for _ in range(3)]
            for actor in on.actors:
                actor.say(failing(503))
            answers = [await each.whole() for each in exchanges]
            assert [told(each) for each in answers] == [(503, "miss", "3"), (503, "hit", "0"), (503, "hit", "0")]
            assert [actor.asked_count for actor in on.actors] == [1, 1, 1]
            assert answers[0].body == answers[1].body == answers[2].body
            assert len(answers[1].error["attempts"]) == 3
            await until(on.quiet)
            assert on.count("mana_llm_requests_total", status="503") == 3

    uvloop.run(main())


def test_embeddings_are_shared_when_they_are_identical(tmp_path):
    """Embeddings need no temperature: one call, the same vectors for all."""
    row = {"object": "embedding", "index": 0, "embedding": [0.5, 1.5]}
    given = {"object": "list", "model": "m", "data": [row], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    body = json.dumps({"model": DIRECT, "input": "a"}).encode()

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchanges = [await begin(on.port, "POST /v1/embeddings", body) for _ in range(3)]
            await until(lambda: on.count("mana_llm_in_flight") == 3)
            on.actors[0].say(answer(json.dumps(given).encode()))
            answers = [await each.whole() for each in exchanges]
            assert sorted(told(each) for each in answers) == [(200, "hit", "0")] * 2 + [(200, "miss", "1")]
            assert answers[0].body == answers[1].body == answers[2].body
            assert answers[0].json["data"] == [row]
            await until(on.quiet)
            assert on.count("mana_llm_tokens_total") == 3

    uvloop.run(main())


def test_estimate_is_told_and_counted_once_when_embeddings_are_shared():
    """What a provider did not count is told to everybody who gets it, and stands in the figures once."""
    body = b'{"model": "google/sim.ok.first-0.5", "input": "some words"}'

    async def main() -> None:
        async with gateway() as running:
            both = await asyncio.gather(*(call(running.port, "POST /v1/embeddings", body) for _ in range(2)))
            assert both[0].body == both[1].body
            assert [each.headers["x-mana-llm-usage"] for each in both] == ["estimated"] * 2
            on = Stage(running, [])
            await until(on.quiet)
            assert on.count("mana_llm_usage_estimated_total") == 1
            assert on.count("mana_llm_tokens_total") == both[0].json["usage"]["prompt_tokens"]

    uvloop.run(main())


def test_log_tells_it_when_an_answer_was_shared(tmp_path):
    """A line for each: who got another's answer spent no tokens, no money and no attempt."""
    aliases = "aliases: {mana/one: {chain: [openai/sim.ok.first-0.5]}}\ndefault: mana/one\n"

    async def main() -> None:
        async with logged(tmp_path, aliases) as (running, log):
            asked = [begin_chat(running.port, "mana/one", temperature=0) for _ in range(2)]
            for exchange in await asyncio.gather(*asked):
                await exchange.whole()
            await begin_chat(running.port, "mana/one", temperature=1)
        hit, miss = sorted((line for line in log if "cache" in line), key=lambda line: line["cache"])
        assert (hit["cache"], miss["cache"]) == ("hit", "miss")
        assert {"tokens_in", "tokens_out", "attempts"} & hit.keys() == set()
        assert (hit["resolved"], hit["alias"], hit["cost_usd"]) == ("openai/sim.ok.first-0.5", "mana/one", 0.0)
        assert (miss["attempts"], miss["tokens_in"] > 0) == (1, True)
        # The wait for somebody else's call is none of the gateway's time.
        assert hit["overhead_ms"] < 300 < hit["duration_ms"]

    uvloop.run(main())


def test_timing_has_the_wait_when_an_answer_was_shared(tmp_path):
    """`first-token` is the wait for the provider, through whomever."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            first, second = [await same(on) for _ in range(2)]
            await asyncio.sleep(0.05)
            on.actors[0].say(whole("hello"))
            await first.whole()
            timing = dict(part.split(";dur=") for part in (await second.whole()).headers["server-timing"].split(", "))
            assert float(timing["first-token"]) >= 45
            assert timing["queue"] == "0.00"

    uvloop.run(main())
