"""`hedge_after_s` over the real gateway: a second entry is asked because the first is slow."""

import asyncio
import re

import pytest
import uvloop

from mana_llm.settings import Secret
from tests.caller import Exchange, begin_chat, chat
from tests.gateway.staged import DONE, FINISH, MODELS, Stage, delta, failing, stage, streamed, until, whole
from tests.logged import logged
from tests.puppet import STREAM_HEAD

HEDGED = "hedge_after_s: 0.05"
ALIAS = "mana/three"
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def good(text: str, *, stream: bool) -> bytes:
    return streamed(text) if stream else whole(text)


async def hedged(on: Stage, *, stream: bool) -> Exchange:
    """A request of which the first entry and the hedge have been asked."""
    exchange = await begin_chat(on.port, ALIAS, stream=stream)
    await asyncio.wait_for(on.actors[1].asked.wait(), 5)
    return exchange


async def assert_at_rest(on: Stage) -> None:
    """No request, place, permit or connection is left over, and no provider's health has learnt anything."""
    await until(on.quiet)
    await until(lambda: not any(actor.here for actor in on.actors))
    assert (on.running.application.metrics._in_flight, on.running.application.health.problems()) == (0, {})
    pools = on.running.application.transport._pools.values()
    await until(lambda: not sum(len(pool._all) - len(pool._idle) + pool._opening for pool in pools))


@BOTH
def test_hedge_answers_when_the_first_entry_is_silent(stream, tmp_path):
    """The second entry's answer is taken, the first is let go at once, and everything is counted once."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED) as on:
            exchange = await hedged(on, stream=stream)
            loop = asyncio.get_running_loop()
            on.actors[1].say(good("second", stream=stream))
            spoke_at = loop.time()
            await asyncio.wait_for(on.actors[0].left.wait(), 5)
            # 100 ms is the figure; the bound is generous for a busy machine.
            assert loop.time() - spoke_at < 1.0
            answer = await exchange.whole()
            assert (answer.text, answer.headers["x-mana-llm-resolved"]) == ("second", MODELS[1])
            assert answer.headers["x-mana-llm-attempts"] == "2"
            await assert_at_rest(on)
            assert on.count("mana_llm_hedges_total", result="won") == 1
            assert on.count("mana_llm_hedges_total") == 1
            assert on.count("mana_llm_requests_total") == on.count("mana_llm_requests_total", status="200") == 1
            assert on.count("mana_llm_llm_requests_total", provider="openai", status="cancelled") == 1
            assert on.count("mana_llm_llm_requests_total", provider="groq", status="ok") == 1
            assert on.count("mana_llm_llm_requests_total") == 2
            assert on.count("mana_llm_alias_resolved_total", target=MODELS[1]) == 1
            # One answer was paid for.
            assert on.count("mana_llm_tokens_total") == 8

    uvloop.run(main())


@BOTH
def test_server_timing_adds_up_when_two_entries_were_waited_for(stream, tmp_path):
    """Time that two entries were waited for counts once: all of it together is no more than the request took."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED) as on:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            exchange = await hedged(on, stream=stream)
            await asyncio.sleep(0.2)
            on.actors[1].say(good("second", stream=stream))
            answer = await exchange.whole()
            took_s = loop.time() - began_s
            spans_ms = dict(re.findall(r"([a-z-]+);dur=([0-9.]+)", answer.headers["server-timing"]))
            assert list(spans_ms) == ["queue", "connect", "first-token", "gateway"]
            assert 200 <= sum(map(float, spans_ms.values())) <= took_s * 1e3

    uvloop.run(main())


@BOTH
def test_first_entry_answers_when_it_speaks_before_the_hedge(stream, tmp_path):
    """The first entry's answer is taken although the hedge was begun, and the hedge is let go."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED) as on:
            exchange = await hedged(on, stream=stream)
            on.actors[0].say(good("first", stream=stream))
            answer = await exchange.whole()
            assert (answer.text, answer.headers["x-mana-llm-resolved"]) == ("first", MODELS[0])
            await asyncio.wait_for(on.actors[1].left.wait(), 5)
            await assert_at_rest(on)
            assert on.count("mana_llm_hedges_total", result="lost") == 1
            assert on.count("mana_llm_llm_requests_total", provider="groq", status="cancelled") == 1

    uvloop.run(main())


@BOTH
def test_nothing_is_hedged_when_the_first_entry_is_quick(stream, tmp_path):
    """An answer in time asks nobody else."""

    async def main() -> None:
        async with stage(tmp_path, "hedge_after_s: 5") as on:
            on.actors[0].say(good("first", stream=stream))
            assert (await chat(on.port, ALIAS, stream=stream)).text == "first"
            assert [actor.asked_count for actor in on.actors] == [1, 0, 0]
            assert on.count("mana_llm_hedges_total") == 0

    uvloop.run(main())


@BOTH
def test_third_entry_is_asked_when_the_first_fails_while_the_hedge_waits(stream, tmp_path):
    """Two walks along one chain: the first goes on past the hedge's entry, and no entry is asked twice."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED) as on:
            exchange = await hedged(on, stream=stream)
            on.actors[2].say(good("third", stream=stream))
            on.actors[0].say(failing(503))
            answer = await exchange.whole()
            assert (answer.text, answer.headers["x-mana-llm-attempts"]) == ("third", "3")
            assert [actor.asked_count for actor in on.actors] == [1, 1, 1]
            await asyncio.wait_for(on.actors[1].left.wait(), 5)
            await until(on.quiet)
            assert on.count("mana_llm_hedges_total", result="lost") == 1

    uvloop.run(main())


@BOTH
def test_error_has_all_attempts_when_first_and_hedge_fail(stream, tmp_path):
    """With every entry used up by one walk or the other: a 503 with a row for each, and nothing is left over."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED) as on:
            on.actors[2].always(failing(500))
            exchange = await hedged(on, stream=stream)
            on.actors[1].say(failing(502))
            await until(lambda: on.actors[2].asked_count)
            on.actors[0].say(failing(503))
            answer = await exchange.whole()
            assert (answer.status, answer.error["code"]) == (503, "no_healthy_provider")
            assert sorted(row["model"] for row in answer.error["attempts"]) == sorted(MODELS)
            assert answer.headers["x-mana-llm-attempts"] == "3"
            await until(on.quiet)
            assert on.count("mana_llm_hedges_total", result="lost") == 1

    uvloop.run(main())


@BOTH
def test_walk_ends_when_the_first_entrys_error_says_so(stream, tmp_path):
    """An error that no other entry should see ends the race: the hedge is let go, and it is counted as lost."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED) as on:
            exchange = await hedged(on, stream=stream)
            on.actors[0].say(failing(400))
            answer = await exchange.whole()
            assert (answer.status, answer.error["code"]) == (400, "odd")
            await asyncio.wait_for(on.actors[1].left.wait(), 5)
            await assert_at_rest(on)
            assert on.count("mana_llm_hedges_total", result="lost") == 1

    uvloop.run(main())


@BOTH
@pytest.mark.parametrize("leave", [Exchange.close, Exchange.reset])
def test_both_upstreams_are_let_go_when_the_client_leaves(leave, stream, tmp_path):
    """A client that leaves a hedged request ends the work of both entries; the hedge is counted all the same."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED) as on:
            leave(await hedged(on, stream=stream))
            for actor in on.actors[:2]:
                await asyncio.wait_for(actor.left.wait(), 5)
            await assert_at_rest(on)
            assert on.actors[2].asked_count == 0
            assert on.count("mana_llm_requests_total", status="499") == 1
            assert on.count("mana_llm_llm_requests_total", status="cancelled") == 2
            assert on.count("mana_llm_hedges_total", result="lost") == 1

    uvloop.run(main())


def test_places_are_given_back_when_a_hedged_stream_ends(tmp_path):
    """Where providers have places, the loser's is free at once and the winner's at the end of its stream."""

    async def main() -> None:
        limits = ("openai=1", "groq=1")
        async with stage(tmp_path, HEDGED, max_concurrent=limits) as on:
            gates = on.running.application.admission.gates
            exchange = await hedged(on, stream=True)
            assert (gates["openai"].in_flight, gates["groq"].in_flight) == (1, 1)
            on.actors[1].say(STREAM_HEAD, delta("second"), end=False)
            await exchange.until_events(1)
            assert (gates["openai"].in_flight, gates["groq"].in_flight) == (0, 1)
            on.actors[1].say(FINISH, DONE)
            assert (await exchange.whole()).text == "second"
            await assert_at_rest(on)

    uvloop.run(main())


@pytest.mark.parametrize("stand_in", ["mistral/any", "google/any"])
def test_third_entry_is_the_hedge_when_the_second_cannot_be_asked(stand_in, tmp_path):
    """A hedge passes an entry that is not configured, or that rests, and asks the next one."""
    chain = ("openai/any", stand_in, "together/any")

    async def main() -> None:
        async with stage(tmp_path, HEDGED, chain, mistral_api_key=Secret()) as on:
            if stand_in.startswith("google/"):
                health = on.running.application.health
                on.running.simulator.script("sim.status.code-429.retry-60")
                assert (await chat(on.port, "google/any")).status == 429
                assert list(health.problems()) == ["google"]
            exchange = await begin_chat(on.port, ALIAS)
            on.actors[2].say(whole("third"))
            answer = await exchange.whole()
            assert answer.headers["x-mana-llm-resolved"] == "together/any"
            assert answer.headers["x-mana-llm-attempts"] == "2"
            assert on.count("mana_llm_hedges_total", result="won") == 1

    uvloop.run(main())


def test_nothing_is_hedged_when_no_other_entry_could_be_asked(tmp_path):
    """With nobody to hedge with, the budget is kept and the first entry has its time."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED, ("openai/any", "mistral/any"), mistral_api_key=Secret()) as on:
            exchange = await begin_chat(on.port, ALIAS)
            await asyncio.sleep(0.15)
            on.actors[0].say(whole("first"))
            assert (await exchange.whole()).text == "first"
            assert on.count("mana_llm_hedges_total") == 0

    uvloop.run(main())


def test_keep_alives_come_before_the_winners_answer_when_both_are_slow(tmp_path):
    """Soft commit and hedge get on with each other: one stream, keep-alives, then the winner's content."""

    async def main() -> None:
        async with stage(tmp_path, HEDGED, soft_commit_s=0.05) as on:
            exchange = await hedged(on, stream=True)
            await exchange.until_events(2)
            on.actors[1].say(streamed("second"))
            answer = await exchange.whole()
            assert (answer.text, answer.events[-2]["model"]) == ("second", MODELS[1])
            await assert_at_rest(on)

    uvloop.run(main())


def test_log_has_one_line_when_a_request_was_hedged(tmp_path):
    """One request, one line: the entry that answered, both attempts, the tokens of one answer."""
    aliases = f"aliases: {{mana/one: {{{HEDGED}, chain: [openai/sim.hang, groq/sim.ok]}}}}\ndefault: mana/one\n"

    async def main() -> None:
        async with logged(tmp_path, aliases) as (running, log):
            answer = await chat(running.port, "mana/one")
            usage = answer.json["usage"]
        (line,) = log
        assert (line["resolved"], line["attempts"], line["status"]) == ("groq/sim.ok", 2, 200)
        assert (line["tokens_in"], line["tokens_out"]) == (usage["prompt_tokens"], usage["completion_tokens"])

    uvloop.run(main())
