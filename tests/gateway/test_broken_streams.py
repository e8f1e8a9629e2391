"""A provider whose streams begin well and break: it is taken out like any other that fails."""

import asyncio

import uvloop

from tests.caller import begin_chat, chat
from tests.gateway.staged import DONE, FINISH, delta, stage, until
from tests.puppet import STREAM_HEAD
from tests.world import gateway

CHAIN = "aliases: {mana/two: {chain: [ollama/sim.cut.after-2.chunks-6, groq/sim.ok]}}\ndefault: mana/two\n"
BACKOFF_S = 0.2


def test_next_entry_answers_when_the_first_ones_streams_break(tmp_path):
    """Two streams in a row that break after their content take the provider out; the third client is answered."""

    async def main() -> None:
        async with gateway(CHAIN, tmp_path, probe_interval_s=0.0) as running:
            for failures in (1, 2):
                answer = await chat(running.port, "mana/two", stream=True)
                assert "error" in answer.events[-2]
                assert running.application.health.told("ollama").consecutive_failures == failures
            answer = await chat(running.port, "mana/two", stream=True)
            assert (answer.headers["x-mana-llm-resolved"], answer.events[-1]) == ("groq/sim.ok", "[DONE]")

    uvloop.run(main())


def test_trial_is_free_again_when_its_client_leaves_the_stream(tmp_path):
    """After such a trip one whole stream decides: a client that leaves in its middle gives the turn to the next."""
    settings = {"health_failures": 1, "health_backoff_s": BACKOFF_S}

    async def main() -> None:
        async with stage(tmp_path, "", ("openai/any",), **settings) as on:
            actor, health = on.actors[0], on.running.application.health
            actor.say(STREAM_HEAD, delta("a"))
            assert "error" in (await chat(on.port, "mana/three", stream=True)).events[-2]
            await until(lambda: health.told("openai").state == "probing")
            leaving = await begin_chat(on.port, "mana/three", stream=True)
            actor.say(STREAM_HEAD, delta("a"), end=False)
            await leaving.until_events(1)
            assert not health.is_healthy("openai")
            leaving.close()
            await until(lambda: health.is_healthy("openai"))
            assert health.told("openai").state == "probing"
            await until(on.quiet)
            staying = await begin_chat(on.port, "mana/three", stream=True)
            actor.say(STREAM_HEAD, delta("b"), end=False)
            await staying.until_events(1)
            assert health.told("openai").state == "probing"
            actor.say(FINISH, DONE)
            assert (await asyncio.wait_for(staying.whole(), 5)).text == "b"
            await until(lambda: health.told("openai").state == "healthy")

    uvloop.run(main())
