"""The client's own patience, which its `x-stainless-read-timeout` tells."""

import asyncio

import openai
import pytest
import uvloop

from tests.caller import Answer, begin, body_for, call
from tests.gateway.staged import DONE, FINISH, MODELS, delta, stage, streamed, until, whole
from tests.puppet import STREAM_HEAD

ALIAS = "mana/three"
CHAT = "POST /v1/chat/completions"
LIMIT = "x-stainless-read-timeout"


async def timed(port: int, limit: str, *, stream: bool = False) -> tuple[Answer, float]:
    """A request by a client of so many seconds' patience, and how long it took."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    answer = await call(port, CHAT, body_for(ALIAS, stream=stream), {LIMIT: limit})
    return answer, loop.time() - began_at


async def impatient(folder, budget_s: float, entry_s: float) -> None:
    """Three silent entries, each of which may take longer than the client waits."""
    async with stage(folder, f"ttft_s: {entry_s}", health_failures=1) as on:
        answer, took_s = await timed(on.port, str(budget_s))
        # What was asked before the deadline, and never after it.
        asked = [actor.asked_count for actor in on.actors]
        assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
        assert took_s > budget_s * 0.9 - 0.025
        assert asked == [1, 0, 0]
        await until(on.quiet)
        await asyncio.sleep(0.05)
        assert [actor.asked_count for actor in on.actors] == asked
        assert not any(breaker.failures for breaker in on.running.application.health._breakers.values())


def test_walk_ends_within_the_clients_patience_when_every_entry_is_slow(tmp_path):
    """R25 (0.4 of 2 s): a plain request ends in a 504 before its client gives up; no attempt begins after the
    deadline, and no provider's health learns of a client's impatience.
    """
    uvloop.run(impatient(tmp_path, 0.4, 1.0))


@pytest.mark.long
def test_walk_ends_at_two_seconds_when_the_client_has_no_more(tmp_path):
    """R25 (2 of 2 s): three entries of 5 s, a budget of 2 s: a 504 at 2 s, 50 ms more or less, and no attempt is
    begun after it.
    """

    async def main() -> None:
        async with stage(tmp_path, "ttft_s: 5") as on:
            answer, took_s = await timed(on.port, "2")
            assert answer.status == 504
            assert 1.95 <= took_s <= 2.05
            await asyncio.sleep(0.2)
            assert [actor.asked_count for actor in on.actors] == [1, 0, 0]

    uvloop.run(main())


def test_next_entry_has_what_is_left_when_the_first_used_a_part(tmp_path):
    """The budget is the walk's: an entry that failed in time leaves the rest to the next one."""

    async def main() -> None:
        async with stage(tmp_path, "ttft_s: 0.2") as on:
            answer, _ = await timed(on.port, "0.5")
            assert answer.status == 504
            reasons = [(row["model"], row["reason"]) for row in answer.error["attempts"]]
            assert reasons == [(model, "ProviderTimeoutError") for model in MODELS]
            # The first two had their whole time; the third was left less, by its client.
            breakers = on.running.application.health._breakers
            assert [breakers[name].failures for name in ("openai", "groq", "together")] == [1, 1, 0]

    uvloop.run(main())


def test_stream_is_whole_when_it_takes_longer_than_its_client_waits_for_silence(tmp_path):
    """The limit is on silence: a stream that flows beyond it, content or keep-alives, is never ended by it."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            on.running.simulator.script("sim.ok.chunks-12.pace-0.05.first-0.5")
            body = body_for("ollama/any", stream=True)
            answer = await call(on.port, CHAT, body, {LIMIT: "0.3"})
            assert answer.status == 200
            assert not any("error" in event for event in answer.events)
            assert answer.text.startswith("[simulated]")

    uvloop.run(main())


@pytest.mark.parametrize("limit", ["abc", "-1", "0", "nan", "inf", "-inf", "1e999", "", "None", "0.2 s", "0,2", "\xff"])
def test_limit_is_ignored_when_it_makes_no_sense(limit, tmp_path):
    """What is no positive number of seconds changes nothing: the answer comes, however long it takes."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchange = await begin(on.port, CHAT, body_for(ALIAS), {LIMIT: limit})
            await asyncio.wait_for(on.actors[0].asked.wait(), 5)
            on.actors[0].say(whole("here"))
            answer = await exchange.whole()
            assert (answer.status, answer.text) == (200, "here")

    uvloop.run(main())


def test_gateways_own_limit_holds_when_the_client_is_more_patient(tmp_path):
    """A client cannot make the gateway wait longer than it does by itself, and then its providers are judged."""

    async def main() -> None:
        async with stage(tmp_path, "ttft_s: 0.1, total_s: 5") as on:
            answer, _ = await timed(on.port, "600")
            assert answer.status == 503
            assert all(
                on.running.application.health._breakers[name].failures for name in ("openai", "groq", "together")
            )

    uvloop.run(main())


def test_embeddings_end_in_time_when_their_client_is_impatient(tmp_path):
    """Embeddings are bounded as any plain request is."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            body = b'{"model": "openai/any", "input": "a"}'
            answer = await call(on.port, "POST /v1/embeddings", body, {LIMIT: "0.2"})
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
            assert not on.running.application.health._breakers["openai"].failures

    uvloop.run(main())


def test_stream_is_refused_in_time_when_no_sign_of_life_would_come(tmp_path):
    """With soft commit off, a stream that has not begun is a 504 before its client gives up, and nobody is blamed."""

    async def main() -> None:
        async with stage(tmp_path, "ttft_s: 5", soft_commit_s=0.0, health_failures=1) as on:
            answer, took_s = await timed(on.port, "0.4", stream=True)
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
            assert [row["model"] for row in answer.error["attempts"]] == list(MODELS)
            assert took_s > 0.3
            assert [actor.asked_count for actor in on.actors] == [1, 0, 0]
            await until(on.quiet)
            assert not any(breaker.failures for breaker in on.running.application.health._breakers.values())

    uvloop.run(main())


def test_stream_flows_on_when_it_began_in_time_and_no_sign_of_life_would_come(tmp_path):
    """With soft commit off, a stream that has begun within its client's limit may take longer than that."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=0.0) as on:
            exchange = await begin(on.port, CHAT, body_for(ALIAS, stream=True), {LIMIT: "0.4"})
            on.actors[0].say(STREAM_HEAD + delta("a"), end=False)
            await exchange.until_events(1)
            for text in "bcd":
                await asyncio.sleep(0.2)
                on.actors[0].say(delta(text), end=False)
            on.actors[0].say(FINISH + DONE)
            answer = await exchange.whole()
            assert (answer.status, answer.text, answer.events[-1]) == (200, "abcd", "[DONE]")

    uvloop.run(main())


def test_official_client_is_told_when_its_timeout_is_short(tmp_path):
    """openai-python with `timeout` hears from the gateway, with a status, before it gives up by itself."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            client = openai.AsyncOpenAI(base_url=on.running.v1, api_key="none", max_retries=0, timeout=0.6)
            messages = [{"role": "user", "content": "Hello"}]
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(model=ALIAS, messages=messages)
            assert caught.value.status_code == 504
            await until(on.quiet)
            await until(lambda: not on.actors[0].here)
            on.actors[0].say()
            stream = await client.chat.completions.create(model=ALIAS, messages=messages, stream=True)
            on.actors[1].say(streamed("late, but there"))
            chunks = [chunk async for chunk in stream]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "late, but there"
            await client.close()

    uvloop.run(main())
