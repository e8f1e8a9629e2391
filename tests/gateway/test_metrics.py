"""What is counted, under which names, and that a client cannot make up more of them."""

import random
import string

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from tests.caller import begin_chat, call, chat, counted
from tests.world import World, gateway

# docs/behaviour.md, those that there are: cost, cache results and reloads come with their subjects.
NAMES = {
    "mana_llm_requests": "counter",
    "mana_llm_llm_requests": "counter",
    "mana_llm_alias_resolved": "counter",
    "mana_llm_fallback": "counter",
    "mana_llm_streams_broken": "counter",
    "mana_llm_tokens": "counter",
    "mana_llm_prompts_truncated": "counter",
    "mana_llm_cancelled": "counter",
    "mana_llm_in_flight": "gauge",
    "mana_llm_provider_healthy": "gauge",
    "mana_llm_request_duration_seconds": "histogram",
    "mana_llm_first_token_seconds": "histogram",
    "mana_llm_overhead_seconds": "histogram",
    "mana_llm_build_info": "gauge",
}
ALIASES = """
aliases:
  mana/works: {chain: [ollama/gemma3:4b]}
  mana/falls: {chain: [openai/sim.status.code-500, ollama/gemma3:4b]}
  mana/fails: {chain: [openai/sim.cut.after-0, groq/sim.html]}
  mana/slow: {chain: [openai/sim.hang]}
default: mana/works
"""


async def scraped(running: World) -> bytes:
    return (await call(running.port, "GET /metrics")).body


def families(text: bytes) -> dict:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def test_every_name_is_there_when_nothing_was_asked_yet():
    """Every metric is exposed with help and type before the first request, and the text parses."""

    async def main() -> None:
        async with gateway() as running:
            answer = await call(running.port, "GET /metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            found = families(answer.body)
            assert {name: found[name].type for name in NAMES} == NAMES
            assert all(found[name].documentation for name in NAMES)
            assert answer.body.count(b"mana_llm_provider_healthy{") == len(running.application.entries)

    uvloop.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_answer_is_counted_when_it_is_given(stream, tmp_path):
    """One request under its own name, one call under the resolved one, tokens as reported, durations once."""

    async def main() -> None:
        async with gateway(ALIASES, tmp_path) as running:
            answer = await chat(running.port, "mana/works", stream=stream)
            assert answer.status == 200
            text = await scraped(running)
            assert counted(text, "mana_llm_requests_total", model="mana/works", status="200") == 1
            assert counted(text, "mana_llm_llm_requests_total", provider="ollama", model="gemma3:4b", status="ok") == 1
            assert counted(text, "mana_llm_alias_resolved_total", alias="mana/works", target="ollama/gemma3:4b") == 1
            assert counted(text, "mana_llm_fallback_total") == 0
            assert counted(text, "mana_llm_first_token_seconds_count") == int(stream)
            assert counted(text, "mana_llm_overhead_seconds_count") == 1
            assert counted(text, "mana_llm_tokens_total", provider="ollama", type="output") > 0
            assert counted(text, "mana_llm_tokens_total", provider="ollama", type="input") > 0
            if not stream:
                usage = answer.json["usage"]
                assert counted(text, "mana_llm_tokens_total", type="input") == usage["prompt_tokens"]
                assert counted(text, "mana_llm_tokens_total", type="output") == usage["completion_tokens"]

    uvloop.run(main())


def test_fallback_is_counted_when_an_entry_fails(tmp_path):
    """A step from one entry to the next has both names and the reason; each provider call has its own count."""

    async def main() -> None:
        async with gateway(ALIASES, tmp_path) as running:
            for _ in range(3):
                assert (await chat(running.port, "mana/falls")).status == 200
            text = await scraped(running)
            step = {"from_model": "openai/sim.status.code-500", "to_model": "ollama/gemma3:4b"}
            # Two failures trip the provider; the third request passes it by.
            assert counted(text, "mana_llm_fallback_total", **step, reason="ProviderServerError") == 2
            assert counted(text, "mana_llm_fallback_total", **step, reason="cache-unhealthy") == 1
            assert counted(text, "mana_llm_llm_requests_total", provider="openai") == 2
            assert counted(text, "mana_llm_llm_requests_total", provider="ollama", status="ok") == 3
            assert counted(text, "mana_llm_provider_healthy", provider="openai") == 0
            assert counted(text, "mana_llm_provider_healthy", provider="ollama") == 1
            assert counted(text, "mana_llm_requests_total", model="mana/falls", status="200") == 3

    uvloop.run(main())


def test_failure_is_counted_when_nobody_answers(tmp_path):
    """A chain that is exhausted is one request with its status, and no alias was resolved."""

    async def main() -> None:
        async with gateway(ALIASES, tmp_path) as running:
            assert (await chat(running.port, "mana/fails", stream=True)).status == 503
            assert (await chat(running.port, "mana/unknown")).status == 404
            text = await scraped(running)
            assert counted(text, "mana_llm_requests_total", model="mana/fails", status="503") == 1
            assert counted(text, "mana_llm_requests_total", model="other", status="404") == 1
            assert counted(text, "mana_llm_alias_resolved_total") == 0
            assert counted(text, "mana_llm_llm_requests_total", status="ProviderProtocolError") == 2

    uvloop.run(main())


def test_cancellation_is_counted_when_the_client_leaves(tmp_path):
    """A client that leaves is a 499, a cancellation and a cancelled call; nothing stays in flight."""

    async def main() -> None:
        async with gateway(ALIASES, tmp_path) as running:
            exchange = await begin_chat(running.port, "mana/slow")
            await running.simulator.wait_until(lambda: any(entry.method == "POST" for entry in running.simulator.log))
            assert counted(await scraped(running), "mana_llm_in_flight") == 1
            exchange.close()
            (asked,) = [entry for entry in running.simulator.log if entry.method == "POST"]
            await running.simulator.wait_until(lambda: asked.ended == "client-closed")
            text = await scraped(running)
            assert counted(text, "mana_llm_requests_total", model="mana/slow", status="499") == 1
            assert counted(text, "mana_llm_cancelled_total") == 1
            assert counted(text, "mana_llm_llm_requests_total", provider="openai", status="cancelled") == 1
            assert counted(text, "mana_llm_in_flight") == 0

    uvloop.run(main())


def test_break_is_counted_when_a_stream_ends_badly():
    """A stream that breaks after content is a 200 for the client's request, and a broken stream."""

    async def main() -> None:
        async with gateway() as running:
            await chat(running.port, "openai/sim.cut.after-2", stream=True)
            text = await scraped(running)
            broken = {"provider": "openai", "reason": "ProviderProtocolError"}
            assert counted(text, "mana_llm_streams_broken_total", **broken) == 1
            assert counted(text, "mana_llm_requests_total", status="200") >= 1

    uvloop.run(main())


def test_series_do_not_grow_when_clients_make_up_names():
    """A thousand models that nobody has, aliases that are none, paths, methods: all under names known before."""

    async def main() -> None:
        async with gateway(health_failures=10**6) as running:
            chance = random.Random(1)
            alphabet = string.printable + "é\u2028😀"
            for _ in range(5):
                await chat(running.port, "openai/sim.status.code-404")
                await chat(running.port, "mana/none")
            before = {(s.name, *s.labels.items()) for s in samples(await scraped(running))}
            for prefix in ("", "openai/", "ollama/", "google/", "mana/"):
                for _ in range(200):
                    name = prefix + "".join(chance.choices(alphabet, k=12))
                    running.simulator.script("sim.status.code-404", times=1)
                    await chat(running.port, name)
                    running.simulator.clear_scripts()
            await call(running.port, "GET /" + "x" * 50)
            text = await scraped(running)
            grown = {(s.name, *s.labels.items()) for s in samples(text)} - before
            # Which providers and statuses there were is bounded; the names are not the clients'.
            assert {dict(labels).get("model", "other") for _, *labels in grown} <= {"other"}
            assert len(grown) < 40

    uvloop.run(main())


def samples(text: bytes):
    return [sample for family in families(text).values() for sample in family.samples]
