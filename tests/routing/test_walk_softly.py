"""The walk's table after a soft commit: the same rows, met by a stream whose status has left."""

import asyncio

import pytest

from tests import jumping
from tests.caller import Exchange, begin_chat
from tests.routing.test_walk_rows import AFTER
from tests.routing.walk_cases import CASES, FALLBACK, SOFT_COMMIT_S, aliases_of, settings_of
from tests.routing.walk_seen import assert_learnt, told
from tests.world import gateway

ALIAS = "mana/two"
SILENT = "deepseek/sim.hang"
"""The first entry: by its first-token limit, the walk comes to the case after a minute."""
SILENT_S = 60.0
UNPROBED = {"probe_interval_s": 0.0}
"""Within that minute probes would find out who is dead before the walk does."""
STREAMED = [case for case in CASES if True in case.streams]
WALKING = list({(case.reason, str(case.health), case.after_s): case for case in STREAMED if case.walks}.values())
"""One of each kind that walks on."""


async def instants_of(exchange: Exchange) -> list[float]:
    """Read to the end; the loop's time of every event."""
    loop = asyncio.get_running_loop()
    instants: list[float] = []
    while not exchange.answer.complete and await exchange.more():
        instants += [loop.time()] * (exchange.answer.event_count - len(instants))
    return instants


async def answered(port: int, seconds: float, **fields):
    """The whole answer to a streamed request, which began softly in time and took so long."""
    began_s = asyncio.get_running_loop().time()
    exchange = await begin_chat(port, ALIAS, stream=True, **fields)
    instants = await instants_of(exchange)
    exchange.close()
    waited = [instant - began_s for instant in instants]
    assert waited[:3] == pytest.approx([SOFT_COMMIT_S, 2 * SOFT_COMMIT_S, 3 * SOFT_COMMIT_S], abs=0.001)
    assert waited[-1] == pytest.approx(seconds, abs=0.001)
    answer = exchange.answer
    assert answer.status == 200
    assert not {"x-mana-llm-resolved", "x-mana-llm-attempts"} & set(answer.headers)
    deltas = [event["choices"][0]["delta"] for event in answer.events[:3]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": ""}, {"content": ""}]
    assert {event["model"] for event in answer.events[:3]} == {ALIAS}
    return answer


@pytest.mark.parametrize("case", STREAMED, ids=lambda case: case.name)
def test_walk_follows_the_table_within_the_stream_when_it_was_begun_softly(case, tmp_path):
    """After keep-alives at 15, 30 and 45 s, the next entry's answer follows in the same stream if the table says so;
    else the error that ended the walk does, and nobody else is asked. Health learns the same as ever.
    """

    async def main() -> None:
        with settings_of(case) as settings:
            # A limit on the first token that a case sets is the silent entry's, too.
            silent_s = settings.get("ttft_s", SILENT_S)
            aliases = aliases_of(SILENT, case.model, FALLBACK)
            async with gateway(aliases, tmp_path, **UNPROBED, **settings) as running:
                answer = await answered(running.port, silent_s + case.after_s, **case.fields)
                asked = [entry.model for entry in running.simulator.log if entry.method == "POST"]
                if case.walks:
                    assert answer.text.startswith("[simulated]")
                    assert answer.events[-1] == "[DONE]"
                    assert not any("error" in event for event in answer.events)
                    spoken = [event for event in answer.events[:-1] if event["model"] != ALIAS]
                    assert {event["model"] for event in spoken} == {FALLBACK}
                else:
                    error = told(answer, 200, soft=True)
                    assert error["code"] == case.direct[1]
                    assert "attempts" not in error
                    assert FALLBACK.partition("/")[2] not in asked
                await assert_learnt(running, case)

    jumping.run(main())


@pytest.mark.parametrize("case", WALKING, ids=lambda case: case.name)
def test_stream_ends_in_the_attempts_when_the_chain_does_after_a_soft_commit(case, tmp_path):
    """With nobody else to ask: one error event with an attempt per entry, and [DONE]; no finish is invented."""

    async def main() -> None:
        with settings_of(case) as settings:
            silent_s = settings.get("ttft_s", SILENT_S)
            async with gateway(aliases_of(SILENT, case.model), tmp_path, **UNPROBED, **settings) as running:
                answer = await answered(running.port, silent_s + case.after_s, **case.fields)
                error = told(answer, 200, soft=True)
                assert (error["type"], error["code"]) == ("no_healthy_provider", "no_healthy_provider")
                rows = [(row["model"], row["reason"]) for row in error["attempts"]]
                assert rows == [(SILENT, "ProviderTimeoutError"), (case.model, case.reason)]
                chunks = answer.events[:-2]
                assert not any(chunk["choices"][0]["finish_reason"] for chunk in chunks)

    jumping.run(main())


@pytest.mark.parametrize("case", AFTER, ids=lambda case: case.name)
def test_second_entry_stays_committed_when_something_happens_to_its_content_after_a_soft_commit(case, tmp_path):
    """Content that followed keep-alives is content: what happens then is told in the stream, and nobody else is asked.
    The walk's time is what the silent entry left of it.
    """
    seconds = min(SILENT_S + case.after_s, 600.0)

    async def main() -> None:
        aliases = aliases_of(SILENT, case.model, FALLBACK)
        async with gateway(aliases, tmp_path, **UNPROBED, **case.settings) as running:
            answer = await answered(running.port, seconds)
            assert answer.text.startswith("[")
            *events, end = answer.events
            assert end == "[DONE]"
            assert [event["error"]["type"] for event in events if "error" in event] == [case.error][: bool(case.error)]
            choices = [choice for event in events for choice in event.get("choices", ())]
            finishes = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
            assert finishes == [case.finish][: bool(case.finish)]
            assert {event["model"] for event in events if "model" in event} == {ALIAS, case.model}
            assert FALLBACK.partition("/")[2] not in [entry.model for entry in running.simulator.log]

    jumping.run(main())
