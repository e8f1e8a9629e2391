"""When a stream becomes an answer: the status line waits for content, and the limits say for how long."""

import asyncio

import pytest
import uvloop

from tests.caller import begin_chat, chat, counted
from tests.puppet import STREAM_HEAD, puppet, request_of
from tests.world import gateway

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
USAGE_ONLY = b'data: {"choices":[],"usage":null,"prompt_filter_results":[]}\n\n'
SHORT_S = 0.3


def delta(members: bytes) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{%b}}]}\n\n' % members


FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
BEGINNINGS = {
    "text": delta(b'"content":"a"'),
    "reasoning": delta(b'"reasoning":"a"'),
    "reasoning_content": delta(b'"reasoning_content":"a"'),
    "encrypted reasoning": delta(b'"content":"","reasoning_details":[{"type":"reasoning.encrypted","data":"a"}]'),
    "a refusal": delta(b'"refusal":"a"'),
    "a tool call": delta(b'"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]'),
    "a finish": FINISH,
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_status_line_comes_with_content_when_the_role_came_before(name):
    """Role, empty and filter chunks are no content: the head comes with text, reasoning, a call or a finish."""

    async def main() -> None:
        heard, go_on = asyncio.Event(), asyncio.Event()

        async def play(reader, writer) -> None:
            head, _ = await request_of(reader)
            if b"/chat/" not in head:
                return
            writer.write(STREAM_HEAD + USAGE_ONLY + ROLE + delta(b'"content":null,"tool_calls":[]'))
            await writer.drain()
            heard.set()
            await go_on.wait()
            writer.write(BEGINNINGS[name])
            await reader.read()

        async with puppet(play) as url, gateway(openai_base_url=url, drain_s=0.1) as running:
            exchange = await begin_chat(running.port, "openai/any", stream=True)
            await heard.wait()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(exchange.more(), 0.1)
            go_on.set()
            await asyncio.wait_for(exchange.until_events(2), 5)
            assert exchange.answer.status == 200
            exchange.close()

    uvloop.run(main())


@pytest.mark.parametrize("script", ["cut.after-0", "cut.after-0.how-rst", "error.after-0", "malformed.after-0"])
def test_status_is_an_error_when_only_a_role_came(script):
    """A stream that breaks before its content has a real HTTP status, as a plain request has."""

    async def main() -> None:
        async with gateway() as running:
            answer = await chat(running.port, f"openai/sim.{script}", stream=True)
            assert answer.status == 503
            assert answer.headers["content-type"] == "application/json"

    uvloop.run(main())


@pytest.mark.parametrize("model", ["openai/sim.hang", "openai/sim.hang.how-role", "ollama/sim.hang.how-body"])
def test_first_token_limit_ends_an_entry_when_nothing_comes(model, tmp_path):
    """Silence beyond the first-token limit: the next entry answers, and a direct model's client gets a 503."""
    aliases = f"aliases: {{mana/two: {{chain: ['{model}', groq/sim.ok]}}}}\ndefault: mana/two\n"

    async def main() -> None:
        async with gateway(aliases, tmp_path, ttft_s=SHORT_S, health_failures=9) as running:
            answer = await chat(running.port, "mana/two", stream=True)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, "groq/sim.ok")
            direct = await chat(running.port, model, stream=True)
            assert (direct.status, direct.error["attempts"][0]["reason"]) == (503, "ProviderTimeoutError")

    uvloop.run(main())


def test_first_token_limit_is_over_when_content_has_come():
    """Once content flows, only silence counts: an answer may take longer than the first token may."""

    async def main() -> None:
        async with gateway(ttft_s=SHORT_S) as running:
            answer = await chat(running.port, "openai/sim.ok.chunks-8.pace-0.1", stream=True)
            assert answer.events[-1] == "[DONE]"
            assert not any("error" in event for event in answer.events)

    uvloop.run(main())


@pytest.mark.parametrize("provider", ["openai", "ollama", "google"])
def test_stream_ends_in_an_error_when_it_falls_silent(provider):
    """Silence beyond the idle limit after content is one error event and [DONE]; health hears of it."""

    async def main() -> None:
        async with gateway(idle_s=SHORT_S, health_failures=1) as running:
            answer = await chat(running.port, f"{provider}/sim.hang.how-chunks.after-2", stream=True)
            *_, error, end = answer.events
            assert (error["error"]["type"], end, answer.complete) == ("provider_timeout", "[DONE]", True)
            assert answer.text
            assert list(running.application.health.problems()) == [provider]
            broken = {"provider": provider, "reason": "ProviderTimeoutError"}
            assert counted(running.application.metrics.text(), "mana_llm_streams_broken_total", **broken) == 1

    uvloop.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_walk_ends_in_504_when_its_time_is_over(stream, tmp_path):
    """The walk's own deadline is a 504 with a row for every entry, those not reached too; none is begun after it."""
    aliases = "aliases: {mana/two: {chain: [openai/sim.hang, groq/sim.ok]}}\ndefault: mana/two\n"

    async def main() -> None:
        async with gateway(aliases, tmp_path, total_s=SHORT_S) as running:
            loop = asyncio.get_running_loop()
            began_at = loop.time()
            answer = await chat(running.port, "mana/two", stream=stream)
            assert SHORT_S * 0.9 < loop.time() - began_at < SHORT_S + 1.0
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
            tried, unreached = answer.error["attempts"]
            assert (tried["model"], unreached["model"]) == ("openai/sim.hang", "groq/sim.ok")
            assert (tried["reason"], unreached["reason"]) == ("ProviderTimeoutError", "deadline")
            assert [entry.model for entry in running.simulator.log if entry.method == "POST"] == ["sim.hang"]

    uvloop.run(main())


def test_walk_always_ends_in_504_when_timers_fire_early(tmp_path):
    """A timer that fires a millisecond early makes no 503 of it, and lets no further entry begin."""
    aliases = "aliases: {mana/two: {chain: [openai/sim.hang, groq/sim.ok]}}\ndefault: mana/two\n"

    async def main() -> None:
        async with gateway(aliases, tmp_path, total_s=0.0203, health_failures=1000) as running:
            for model in ("mana/two", "openai/sim.hang") * 25:
                answer = await chat(running.port, model)
                assert answer.status == 504
                assert [row["reason"] for row in answer.error["attempts"]][1:] in ([], ["deadline"])
            assert {entry.model for entry in running.simulator.log if entry.method == "POST"} == {"sim.hang"}

    uvloop.run(main())


def test_stream_ends_in_an_error_when_the_total_is_over():
    """A stream that flows beyond the total limit is ended by an error event, not silently."""

    async def main() -> None:
        async with gateway(total_s=SHORT_S) as running:
            answer = await chat(running.port, "openai/sim.ok.chunks-1000.pace-0.02", stream=True)
            *_, error, end = answer.events
            assert (error["error"]["type"], end) == ("provider_timeout", "[DONE]")

    uvloop.run(main())


def test_head_names_the_model_when_a_fallback_streams(tmp_path):
    """Header and every chunk name the entry that answered, and the attempts count both."""
    aliases = "aliases: {mana/two: {chain: [openai/sim.cut.after-0, ollama/gemma3:4b]}}\ndefault: mana/two\n"

    async def main() -> None:
        async with gateway(aliases, tmp_path) as running:
            answer = await chat(running.port, "mana/two", stream=True, stream_options={"include_usage": True})
            assert answer.headers["x-mana-llm-resolved"] == "ollama/gemma3:4b"
            assert answer.headers["x-mana-llm-attempts"] == "2"
            assert {event["model"] for event in answer.events[:-1]} == {"ollama/gemma3:4b"}
            assert len({event["id"] for event in answer.events[:-1]}) == 1

    uvloop.run(main())
