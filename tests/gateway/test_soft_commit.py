"""Soft commit: a client that has waited long for the first content of a stream is given signs of life."""

import openai
import pytest
import uvloop

from tests.caller import begin, begin_chat, body_for, chat
from tests.gateway.staged import DONE, FINISH, MODELS, Stage, delta, failing, stage, streamed
from tests.logged import logged
from tests.puppet import STREAM_HEAD

SOON_S = 0.05
ALIAS = "mana/three"
CHAT = "POST /v1/chat/completions"


async def waiting(on: Stage, beats: int = 2, model: str = ALIAS, **fields):
    """A streamed request that has been given so many keep-alives."""
    exchange = await begin_chat(on.port, model, stream=True, **fields)
    await exchange.until_events(beats)
    return exchange


def chunks_of(answer) -> list:
    return [event for event in answer.events if event != "[DONE]" and "error" not in event]


def test_stream_is_begun_with_keep_alives_when_nothing_has_come(tmp_path):
    """After the soft commit's seconds: 200, and chunks with empty content, the role in the first; nothing names who
    will answer, in the headers or in `model`, which is as asked.
    """

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await waiting(on, 3)
            answer = exchange.answer
            assert answer.status == 200
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["x-mana-llm-config"] == on.running.application.aliases.version
            assert answer.headers["x-mana-llm-cache"] == "off"
            assert answer.headers["x-request-id"]
            assert not {"x-mana-llm-resolved", "x-mana-llm-attempts"} & set(answer.headers)
            deltas = [event["choices"][0]["delta"] for event in answer.events]
            assert deltas[:3] == [{"role": "assistant", "content": ""}, {"content": ""}, {"content": ""}]
            assert {event["model"] for event in answer.events} == {ALIAS}
            assert all(event["choices"][0]["finish_reason"] is None for event in answer.events)
            exchange.close()

    uvloop.run(main())


def test_identity_is_the_gateways_own_when_content_follows_keep_alives(tmp_path):
    """`id` and `created` stay as the keep-alives had them, whatever the provider calls its answer; `model` is the
    resolved one from the first content on.
    """

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await waiting(on)
            beats = len(chunks_of(exchange.answer))
            on.actors[0].say(STREAM_HEAD, delta("Hello"), delta(" you"), FINISH, DONE)
            answer = await exchange.whole()
            chunks = chunks_of(answer)
            assert answer.text == "Hello you"
            assert answer.events[-1] == "[DONE]"
            assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
            assert chunks[0]["id"] == f"chatcmpl-{answer.headers['x-request-id']}"
            assert chunks[0]["created"] > 1_000_000_000
            spoke = next(at for at, chunk in enumerate(chunks) if chunk["choices"][0]["delta"].get("content"))
            assert spoke >= beats
            assert {chunk["model"] for chunk in chunks[:spoke]} == {ALIAS}
            assert {chunk["model"] for chunk in chunks[spoke:]} == {MODELS[0]}
            roles = [chunk["choices"][0]["delta"].get("role") for chunk in chunks]
            assert roles == ["assistant"] + [None] * (len(chunks) - 1)

    uvloop.run(main())


def test_next_entry_answers_in_the_same_stream_when_the_first_fails_after_keep_alives(tmp_path):
    """A soft commit does not end the right to fall back: the second entry's answer follows the keep-alives."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await waiting(on)
            on.actors[1].say(streamed("I am second"))
            on.actors[0].say(STREAM_HEAD)
            answer = await exchange.whole()
            assert (answer.text, answer.events[-1]) == ("I am second", "[DONE]")
            assert chunks_of(answer)[-1]["model"] == MODELS[1]
            assert not any("error" in event for event in answer.events)
            assert on.count("mana_llm_alias_resolved_total", alias=ALIAS, target=MODELS[1]) == 1
            assert on.count("mana_llm_requests_total", model=ALIAS, status="200") == 1

    uvloop.run(main())


def test_next_entry_answers_when_the_first_stays_silent_beyond_its_limit(tmp_path):
    """The first-token limit ends the silent entry while keep-alives go on; the next one answers."""

    async def main() -> None:
        async with stage(tmp_path, "ttft_s: 0.3", soft_commit_s=SOON_S) as on:
            on.actors[1].say(streamed("here"))
            answer = await chat(on.port, ALIAS, stream=True)
            assert answer.text == "here"
            assert len(chunks_of(answer)) > 3
            assert on.running.application.health._breakers["openai"].failures == 1

    uvloop.run(main())


def end_of(answer):
    """The error of a stream that ends in one and the end marker."""
    *chunks, error, end = answer.events
    assert end == "[DONE]"
    assert answer.complete
    assert not any("error" in chunk for chunk in chunks)
    assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])
    return error["error"]


def test_error_has_the_attempts_when_the_chain_is_exhausted_after_keep_alives(tmp_path):
    """NoHealthyProviderError goes in-stream, attempts and all, then [DONE]; no finish is invented."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            for actor in on.actors[1:]:
                actor.always(failing(503))
            exchange = await waiting(on)
            on.actors[0].say(failing(500))
            error = end_of(await exchange.whole())
            assert error["code"] == "no_healthy_provider"
            assert [row["model"] for row in error["attempts"]] == list(MODELS)
            assert {row["reason"] for row in error["attempts"]} == {"ProviderServerError"}

    uvloop.run(main())


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (failing(400), "odd"),
        (failing(404, "model_not_found"), "model_not_found"),
        (failing(401), "provider_auth"),
    ],
)
def test_error_ends_the_stream_when_it_ends_the_walk_after_keep_alives(reply, code, tmp_path):
    """An error that no other entry should see is one event and [DONE]; nobody else is asked."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await waiting(on)
            on.actors[0].say(reply)
            error = end_of(await exchange.whole())
            assert error["code"] == code
            assert "attempts" not in error
            assert not on.actors[1].asked_count

    uvloop.run(main())


def test_block_is_an_event_when_it_comes_after_keep_alives(tmp_path):
    """A provider's 422 (its content filter, before any content) is one event with its code, then [DONE]."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            on.running.simulator.script("sim.filter.first-0.3")
            error = end_of(await chat(on.port, "google/any", stream=True))
            assert (error["code"], error["type"]) == ("content_filter", "content_filter")

    uvloop.run(main())


def test_deadline_is_an_event_when_it_passes_after_keep_alives(tmp_path):
    """The walk's own deadline is told in-stream, with the attempts so far."""

    async def main() -> None:
        async with stage(tmp_path, "total_s: 0.3", soft_commit_s=SOON_S) as on:
            error = end_of(await chat(on.port, ALIAS, stream=True))
            assert error["code"] == "deadline_exceeded"
            assert [row["model"] for row in error["attempts"]] == list(MODELS)
            assert {row["reason"] for row in error["attempts"][1:]} == {"deadline"}

    uvloop.run(main())


def test_bug_is_an_event_when_it_strikes_after_keep_alives(tmp_path, monkeypatch):
    """An exception of ours is told in-stream without a word about it, then [DONE]."""

    def bug(*_: object) -> None:
        raise LookupError("a secret of ours")

    monkeypatch.setattr("mana_llm.providers.compatible_stream.CompatibleStream.feed", bug)

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await waiting(on)
            on.actors[0].say(streamed("x"))
            answer = await exchange.whole()
            assert end_of(answer)["code"] == "internal_error"
            assert b"secret" not in answer.body

    uvloop.run(main())


def test_every_choice_has_its_role_once_when_two_follow_keep_alives(tmp_path):
    """N = 2: the keep-alives are the first choice's, and each choice has one role and its own text."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await waiting(on, n=2)
            ends = FINISH + FINISH.replace(b'"index":0', b'"index":1')
            on.actors[0].say(STREAM_HEAD, delta("a"), delta("b", 1), ends, DONE)
            answer = await exchange.whole()
            choices = [choice for chunk in chunks_of(answer) for choice in chunk["choices"]]
            for index, text in enumerate("ab"):
                own = [choice for choice in choices if choice["index"] == index]
                assert "".join(choice["delta"].get("content") or "" for choice in own) == text
                roles = [choice["delta"]["role"] for choice in own if "role" in choice["delta"]]
                assert roles == ["assistant"]
                assert [choice["finish_reason"] for choice in own].count("stop") == 1

    uvloop.run(main())


def test_usage_comes_once_at_the_end_when_it_was_asked_for(tmp_path):
    """include_usage: `usage` is null in keep-alives as in every chunk, and the last chunk has the provider's."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await waiting(on, stream_options={"include_usage": True})
            on.actors[0].say(streamed("a"))
            chunks = chunks_of(await exchange.whole())
            assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
            assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 8)
            assert chunks[-1]["id"] == chunks[0]["id"]

    uvloop.run(main())


def test_official_client_reads_the_stream_when_it_begins_softly(tmp_path):
    """openai-python reads keep-alives and the answer as one stream, and raises the error of one that failed."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            client = openai.AsyncOpenAI(base_url=on.running.v1, api_key="none", max_retries=0)
            messages = [{"role": "user", "content": "Hello"}]
            create = client.chat.completions.create
            stream = await create(model=ALIAS, messages=messages, stream=True)
            on.actors[0].say(streamed("Hello", " you"))
            chunks = [chunk async for chunk in stream]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello you"
            assert (chunks[0].model, chunks[-1].model) == (ALIAS, MODELS[0])
            assert chunks[0].choices[0].delta.role == "assistant"
            failing_stream = await create(model=ALIAS, messages=messages, stream=True)
            on.actors[0].say(failing(400))
            with pytest.raises(openai.APIError, match="said no"):
                _ = [chunk async for chunk in failing_stream]
            await client.close()

    uvloop.run(main())


def test_log_and_metric_have_the_status_that_was_sent_when_a_soft_stream_fails(tmp_path):
    """A stream that failed after its keep-alives is a 200 in the metric, and its log line has the error."""
    aliases = "aliases: {mana/one: {chain: [openai/sim.status.code-503.first-0.3]}}\ndefault: mana/one\n"

    async def main() -> None:
        async with logged(tmp_path, aliases, soft_commit_s=SOON_S) as (running, log):
            running.simulator.script("sim.hang", model="sim.status.code-503.first-0.3")
            exchange = await begin(running.port, CHAT, body_for("mana/one", stream=True))
            await exchange.until_events(1)
            await running.simulator.close()
            assert end_of(await exchange.whole())["code"] == "no_healthy_provider"
            text = running.application.metrics.text().decode()
            assert 'mana_llm_requests_total{model="mana/one",status="200"} 1.0' in text
        line = log.of("mana/one")
        assert (line["status"], line["error"], line["stream"]) == (200, "NoHealthyProviderError", True)
        assert "resolved" not in line

    uvloop.run(main())
