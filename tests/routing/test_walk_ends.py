"""How a walk ends that no provider ended: its time, its client, a bug of ours, the end of the gateway.

In virtual time: the soft commit and the drain are as long as they are by default.
"""

import asyncio
from typing import NamedTuple

import pytest

from tests import jumping
from tests.caller import Exchange, begin_chat
from tests.gateway.staged import Stage, stage, streamed, until, whole
from tests.routing.walk_cases import SOFT_COMMIT_S

ALIAS = "mana/three"
MOMENTS = ("plain", "streamed", "after keep-alives")


class Ending(NamedTuple):
    """One end. `status` and `code` are what the client sees while the status is open; 499 is seen by nobody. `after_s`
    is when it comes, `blames` whether the provider that was silent until then has failed.
    """

    name: str
    status: int
    code: str
    policy: str = ""
    after_s: float = 0.0
    blames: bool = False


DRAIN_S = 25.0
TICKS_S = 1.2
"""How late a stop may be: it is looked for at every tick of the server."""
DEADLINE = Ending("the walk's time is over", 504, "deadline_exceeded", "total_s: 50", 50.0, blames=True)
BRIEF = Ending(
    "the walk's time is over before anybody can be judged by it", 504, "deadline_exceeded", "total_s: 4.5", 4.5
)
CLIENT = Ending("the client leaves", 499, "")
BUG = Ending("a bug of the gateway's own", 500, "internal_error")
STOP = Ending("the gateway is stopped, and the drain is over", 503, "server_shutting_down", after_s=DRAIN_S)
ENDINGS = [DEADLINE, BRIEF, CLIENT, BUG, STOP]


def bring_about(ending: Ending, on: Stage, exchange: Exchange, *, stream: bool) -> None:
    """Make it happen, while the first provider is silent."""
    if ending is CLIENT:
        exchange.close()
    elif ending is BUG:
        on.actors[0].say(streamed("a") if stream else whole("a"))
    elif ending is STOP:
        on.running.server.should_exit = True


def assert_told(ending: Ending, answer, moment: str) -> None:
    """As a status while that was open, else as one event and the end marker."""
    if moment != MOMENTS[2]:
        assert (answer.status, answer.error["code"]) == (ending.status, ending.code)
        error = answer.error
    else:
        *chunks, event, end = answer.events
        error = event["error"]
        assert (answer.status, error["code"], end) == (200, ending.code, "[DONE]")
        assert not any("error" in chunk for chunk in chunks)
    assert ("attempts" in error) == (ending in (DEADLINE, BRIEF))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
def test_client_sees_what_the_table_says_when_the_walk_ends_otherwise(ending, moment, tmp_path, monkeypatch):
    """Whatever ends it: a status while that is open, else one error event and [DONE]; no other entry is asked, the
    upstream is let go, and no provider's health learns of it, unless it had its time and was silent.
    """

    def bug(*_: object) -> None:
        raise LookupError("a secret of ours")

    if ending is BUG:
        monkeypatch.setattr("mana_llm.providers.compatible.Compatible.decode_chat", bug)
        monkeypatch.setattr("mana_llm.providers.compatible_stream.CompatibleStream.feed", bug)
    beat_s = 0.0 if moment != MOMENTS[2] else 1.0 if ending is BRIEF else SOFT_COMMIT_S

    async def main() -> None:
        async with stage(tmp_path, ending.policy, soft_commit_s=beat_s, drain_s=DRAIN_S) as on:
            began_s = on.running.loop.time()
            stream = moment != MOMENTS[0]
            exchange = await begin_chat(on.port, ALIAS, stream=stream)
            await asyncio.wait_for(on.actors[0].asked.wait(), 5)
            if beat_s:
                await exchange.until_events(2)
                assert on.running.loop.time() - began_s == pytest.approx(2 * beat_s, abs=0.001)
            told_s = on.running.loop.time()
            bring_about(ending, on, exchange, stream=stream)
            if ending is not CLIENT:
                assert_told(ending, await exchange.whole(), moment)
            await on.actors[0].left.wait()
            waited_s = on.running.loop.time() - (began_s if ending.policy else told_s)
            assert ending.after_s - 0.001 <= waited_s <= ending.after_s + TICKS_S
            await until(on.quiet)
            assert [actor.asked_count for actor in on.actors] == [1, 0, 0]
            blamed = [name for name, breaker in on.running.application.health._breakers.items() if breaker.failures]
            assert blamed == ["openai"] * ending.blames
            if ending is CLIENT:
                assert on.count("mana_llm_requests_total", status="499") == 1

    jumping.run(main())
