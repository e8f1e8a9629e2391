"""What a stream used that was cut before its provider counted: it was paid for, so it is in the accounts."""

import asyncio

import pytest
import uvloop
from msgspec import Raw

from mana_llm.dialects.openai import OpenAI
from mana_llm.routing.estimate import chars_in, estimated_usage
from mana_llm.schema.chat import ChatChunk
from tests.caller import Exchange, begin_chat, body_for, counted
from tests.gateway.staged import Actor, delta, failing, stage, streamed, until
from tests.logged import logged
from tests.puppet import STREAM_HEAD, puppet
from tests.world import World

MODEL = "openai/any"
PROMPT_TOKENS = -(-len("Hello") // 4)
PIECES = ["Hel", "lo ", "wörld \n", "日本語", "!"] * 5


def tokens(text: str) -> int:
    return -(-len(text) // 4)


def figures(running: World) -> tuple[float, float, float]:
    """Tokens in, tokens out, and how many answers were estimated."""
    text = running.application.metrics.text()
    used = (counted(text, "mana_llm_tokens_total", provider="openai", type=kind) for kind in ("input", "output"))
    return (*used, counted(text, "mana_llm_usage_estimated_total", provider="openai"))  # type: ignore[return-value]


@pytest.mark.parametrize("count", [1, 2, 10, 25])
@pytest.mark.parametrize("leave", [Exchange.close, Exchange.reset])
def test_tokens_seen_are_counted_when_the_client_leaves(leave, count, tmp_path):
    """R15 (25 of 25): a stream whose client leaves after some chunks counts exactly those, a token for four
    characters, and is marked as estimated in the metric and in the log.
    """

    async def main() -> None:
        actor = Actor()
        async with puppet(actor.play) as url, logged(tmp_path, openai_base_url=url) as (running, log):
            exchange = await begin_chat(running.port, MODEL, stream=True)
            actor.say(STREAM_HEAD, *map(delta, PIECES[:count]), end=False)
            await exchange.until_events(count)
            leave(exchange)
            await asyncio.wait_for(actor.left.wait(), 5)
            await until(lambda: running.application.metrics._in_flight == 0)
            assert figures(running) == (PROMPT_TOKENS, tokens("".join(PIECES[:count])), 1)
        line = log.of(MODEL)
        assert (line["status"], line["estimated"], line["tokens_in"]) == (499, True, PROMPT_TOKENS)
        assert line["tokens_out"] == tokens("".join(PIECES[:count]))

    uvloop.run(main())


@pytest.mark.parametrize("end", [b"", b"data: {no json\n\n", b'data: {"error": {"message": "no"}}\n\n'])
def test_tokens_seen_are_counted_when_the_stream_breaks(end, tmp_path):
    """A stream that its provider breaks off counts what was relayed of it, too."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchange = await begin_chat(on.port, MODEL, stream=True)
            on.actors[0].say(STREAM_HEAD, *map(delta, PIECES), end)
            assert "error" in (await exchange.whole()).events[-2]
            assert figures(on.running) == (PROMPT_TOKENS, tokens("".join(PIECES)), 1)

    uvloop.run(main())


def test_nothing_is_estimated_when_the_provider_counted_before_the_cut(tmp_path):
    """What a provider reported is taken as it is, though the stream was cut after it."""
    used = b'data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":50,"total_tokens":80}}\n\n'

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchange = await begin_chat(on.port, MODEL, stream=True)
            on.actors[0].say(STREAM_HEAD, delta("a"), used, b"data: {no json\n\n")
            await exchange.whole()
            assert figures(on.running) == (30, 50, 0)

    uvloop.run(main())


@pytest.mark.parametrize("usage", [True, False])
def test_nothing_is_estimated_when_the_stream_was_whole(usage, tmp_path):
    """A whole stream has the usage that was reported, or none."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchange = await begin_chat(on.port, MODEL, stream=True)
            on.actors[0].say(streamed("Hello", usage=usage))
            await exchange.whole()
            assert figures(on.running) == ((3, 5, 0) if usage else (0, 0, 0))

    uvloop.run(main())


def test_nothing_is_counted_when_no_content_came(tmp_path):
    """A stream that failed before its content is nobody's: no answer, no tokens."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            exchange = await begin_chat(on.port, MODEL, stream=True)
            on.actors[0].say(failing(503))
            assert (await exchange.whole()).status == 503
            assert figures(on.running) == (0, 0, 0)

    uvloop.run(main())


@pytest.mark.parametrize("provider", ["ollama", "google", "groq"])
def test_tokens_seen_are_counted_when_the_provider_is_translated(provider, tmp_path):
    """Characters are counted in what the client was given, whatever the provider's own format."""

    async def main() -> None:
        async with stage(tmp_path, idle_s=0.2) as on:
            on.running.simulator.script("sim.hang.how-chunks.after-3.bytes-400.chunks-10", model="any")
            async with asyncio.timeout(5):
                model = f"{provider}/any" if provider != "groq" else "openrouter/any"
                answer = await (await begin_chat(on.port, model, stream=True)).whole()
            assert answer.text
            text, name = on.running.application.metrics.text(), model.partition("/")[0]
            estimated = counted(text, "mana_llm_usage_estimated_total", provider=name)
            if estimated:
                out = counted(text, "mana_llm_tokens_total", provider=name, type="output")
                assert out == tokens(answer.text)
            else:
                # It counts as it goes.
                assert provider == "google"

    uvloop.run(main())


def chunk(**members: object) -> ChatChunk:
    return ChatChunk({}, [{"index": 0, "delta": dict(members), "finish_reason": None}], has_content=True)


def test_characters_are_those_of_every_kind_of_content_when_counted():
    """Text, reasoning, refusals and calls count; roles, nulls and chunks without content do not."""
    assert chars_in([chunk(content=Raw('"a\\n\u00e9"'.encode()), role=Raw(b'"assistant"'))]) == 3
    assert chars_in([chunk(content="four"), chunk(reasoning="12345"), chunk(refusal=Raw(b'"no"'))]) == 11
    assert chars_in([chunk(content=Raw(b"null"), tool_calls=Raw(b'[{"index":0}]'))]) == len('[{"index":0}]')
    assert chars_in([chunk(content=None, tool_calls=[{"index": 0}])]) == len('[{"index":0}]')
    assert chars_in([ChatChunk({}, [{"index": 0, "delta": {"content": "x"}}])]) == 0


def request(**fields: object):
    return OpenAI().decode_chat(body_for("m", **fields))


def test_prompt_is_judged_by_its_text_when_it_has_images():
    """Text parts count, an image does not; a prompt too long to look into counts by its size, without media only."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    text = {"type": "text", "text": "x" * 10}
    small = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert estimated_usage(request(messages=[{"role": "user", "content": [text, small]}]), 0).prompt_tokens == 3
    assert estimated_usage(request(messages=[{"role": "user", "content": [text, image]}]), 0).prompt_tokens == 0
    long = estimated_usage(request(messages=[{"role": "user", "content": "x" * 400_000}]), 5)
    assert 100_000 <= (long.prompt_tokens or 0) < 100_020
    assert (long.completion_tokens, long.total_tokens) == (2, (long.prompt_tokens or 0) + 2)


def test_prompt_is_judged_by_its_size_when_it_cannot_be_read():
    """Messages of a shape that is not known here are passed on to whoever knows it, and counted by their size."""
    assert (estimated_usage(request(messages=[{"role": "user", "content": 5}]), 0).prompt_tokens or 0) > 0
