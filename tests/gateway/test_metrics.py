"""What is counted, under which names, and that a client cannot make up more of them."""

import asyncio
import random
import string

import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from mana_llm.observe.metrics import Metrics, Sources
from mana_llm.schema.events import Exchange
from mana_llm.schema.models import Facts
from mana_llm.schema.targets import target_of
from mana_llm.schema.usage import usage_of
from mana_llm.simulator.script import Script, Usage
from tests.caller import begin_chat, call, chat, counted
from tests.gateway.staged import stage, whole
from tests.world import World, gateway

# docs/observability.md tells the labels, and tests/docs compares it with what is exposed.
NAMES = {
    "mana_llm_requests": "counter",
    "mana_llm_llm_requests": "counter",
    "mana_llm_alias_resolved": "counter",
    "mana_llm_fallback": "counter",
    "mana_llm_hedges": "counter",
    "mana_llm_streams_broken": "counter",
    "mana_llm_tokens": "counter",
    "mana_llm_cost_usd": "counter",
    "mana_llm_unpriced_tokens": "counter",
    "mana_llm_cache_requests": "counter",
    "mana_llm_config_reloads": "counter",
    "mana_llm_log_lines_dropped": "counter",
    "mana_llm_prompts_truncated": "counter",
    "mana_llm_usage_estimated": "counter",
    "mana_llm_cancelled": "counter",
    "mana_llm_in_flight": "gauge",
    "mana_llm_provider_healthy": "gauge",
    "mana_llm_provider_in_flight": "gauge",
    "mana_llm_provider_queue_length": "gauge",
    "mana_llm_request_duration_seconds": "histogram",
    "mana_llm_first_token_seconds": "histogram",
    "mana_llm_overhead_seconds": "histogram",
    "mana_llm_queue_wait_seconds": "histogram",
    "mana_llm_upstream_connect_seconds": "histogram",
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


def test_cost_is_counted_when_the_price_is_published(tmp_path):
    """An answer costs what the catalogue says, its tokens by kind under the model that answered; the local box is free
    of a price, and its tokens are told apart.
    """

    async def main() -> None:
        aliases = "aliases: {mana/priced: {chain: [openai/gpt-5-mini]}}\ndefault: mana/priced\n"
        async with gateway(aliases, tmp_path) as running:
            usage = Usage(prompt=1000, completion=500, reasoning=200, cached=400)
            running.simulator.script(Script(usage=usage), model="gpt-5-mini")
            facts = running.application.catalogue.facts("openai", "gpt-5-mini")
            for stream in (False, True):
                assert (await chat(running.port, "openai/gpt-5-mini", stream=stream)).status == 200
            assert (await chat(running.port, "ollama/gemma3:4b")).status == 200
            text = await scraped(running)
            model = {"provider": "openai", "model": "gpt-5-mini"}
            cost_usd = (
                600 * facts.input_usd_per_mtok + 400 * facts.cached_usd_per_mtok + 500 * facts.output_usd_per_mtok
            )
            assert counted(text, "mana_llm_cost_usd_total", **model) == pytest.approx(2 * cost_usd / 1e6)
            assert counted(text, "mana_llm_unpriced_tokens_total", **model) == 0
            kinds = ("input", "output", "cached_input", "reasoning")
            tokens = [counted(text, "mana_llm_tokens_total", **model, type=kind) for kind in kinds]
            assert tokens == [2000, 1000, 800, 400]
            assert counted(text, "mana_llm_cost_usd_total", provider="ollama") == 0
            assert counted(text, "mana_llm_unpriced_tokens_total", provider="ollama") > 0

    uvloop.run(main())


def test_load_is_shown_when_a_provider_is_full():
    """While one request has the only place and another waits, the gauges say so; the wait is observed afterwards."""

    async def main() -> None:
        async with gateway(ollama_max_concurrent=1, queue_s=10.0) as running:
            running.simulator.script(Script(first_s=0.3), model="gemma3:4b")
            both = [asyncio.create_task(chat(running.port, "ollama/gemma3:4b")) for _ in range(2)]
            gate = running.application.admission.gates["ollama"]
            await running.simulator.wait_until(lambda: any(entry.method == "POST" for entry in running.simulator.log))
            async with asyncio.timeout(5):
                while not gate.waiting:  # noqa: ASYNC110 - a gate has no event for it
                    await asyncio.sleep(0.005)
            text = await scraped(running)
            assert counted(text, "mana_llm_provider_in_flight", provider="ollama") == 1
            assert counted(text, "mana_llm_provider_queue_length", provider="ollama") == 1
            assert {answer.status for answer in await asyncio.gather(*both)} == {200}
            text = await scraped(running)
            assert counted(text, "mana_llm_provider_in_flight") == 0
            assert counted(text, "mana_llm_provider_queue_length") == 0
            assert counted(text, "mana_llm_queue_wait_seconds_count") == 1

    uvloop.run(main())


def test_connecting_is_observed_when_no_connection_is_open():
    """Forty requests at once need more connections than the lists of models left open."""

    async def main() -> None:
        async with gateway() as running:
            running.simulator.script(Script(first_s=0.1), model="gpt-5-mini")
            await asyncio.gather(*(chat(running.port, "openai/gpt-5-mini") for _ in range(40)))
            text = await scraped(running)
            assert counted(text, "mana_llm_upstream_connect_seconds_count") >= 1
            assert counted(text, "mana_llm_upstream_connect_seconds_sum") > 0

    uvloop.run(main())


def test_connecting_is_observed_when_it_takes_less_than_a_millisecond(tmp_path):
    """Every request that opened a connection is in the histogram, however quick that was."""

    async def main() -> None:
        async with stage(tmp_path) as on:
            on.actors[0].always(whole("a"))
            for _ in range(20):
                assert (await chat(on.port, "openai/any")).status == 200
            assert on.count("mana_llm_upstream_connect_seconds_count") == 20
            assert on.count("mana_llm_upstream_connect_seconds_sum") > 0

    uvloop.run(main())


def test_connecting_is_not_observed_when_a_connection_is_open():
    """Who finds a connection open has not connected."""

    async def main() -> None:
        async with gateway() as running:
            await chat(running.port, "openai/gpt-5-mini")
            before = counted(await scraped(running), "mana_llm_upstream_connect_seconds_count")
            await chat(running.port, "openai/gpt-5-mini")
            assert counted(await scraped(running), "mana_llm_upstream_connect_seconds_count") == before

    uvloop.run(main())


def test_sides_have_their_own_names_when_an_alias_answers(tmp_path):
    """What was asked for is counted on the request's side alone, who answered on the provider's alone."""

    async def main() -> None:
        async with gateway(ALIASES, tmp_path) as running:
            await chat(running.port, "mana/falls")
            text = await scraped(running)
            assert counted(text, "mana_llm_requests_total") == 1
            assert counted(text, "mana_llm_requests_total", model="mana/falls") == 1
            assert counted(text, "mana_llm_llm_requests_total") == 2
            assert counted(text, "mana_llm_llm_requests_total", model="mana/falls") == 0
            assert counted(text, "mana_llm_tokens_total", model="mana/falls") == 0
            assert counted(text, "mana_llm_tokens_total", model="gemma3:4b") > 0

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
            assert counted(text, "mana_llm_requests_total") == 1
            assert counted(text, "mana_llm_requests_total", status="200") == 1

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


def test_series_do_not_grow_when_ten_thousand_models_answer():
    """Ten thousand made-up models that an upstream answers for are one series each for calls, tokens and cost."""
    prices = {"m": Facts(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0), "o": None}
    metrics = Metrics(Sources(version="1", healthy=dict, known="lab/one".__eq__, facts=lambda _, name: prices[name[0]]))
    for name in ("one", *(f"{letter}{number}" for letter in "mo" for number in range(5000))):
        target = target_of("lab", name)
        exchange = Exchange("req-1", 1.0)
        exchange.status, exchange.target, exchange.usage = 200, target, usage_of(1_000, 0)
        metrics.request_began()
        metrics.attempt_ended(target, "ok")
        metrics.request_ended(exchange)
    text = metrics.text()
    assert counted(text, "mana_llm_llm_requests_total", model="other") == 10_000
    assert counted(text, "mana_llm_tokens_total", model="other", type="input") == 10_000_000
    assert counted(text, "mana_llm_cost_usd_total", model="other") == pytest.approx(5.0)
    assert counted(text, "mana_llm_unpriced_tokens_total", model="other") == 5_000_000
    assert {sample.labels.get("model", "other") for sample in samples(text)} == {"other", "one"}
    assert len(metrics._used_of) == 2


def samples(text: bytes):
    return [sample for family in families(text).values() for sample in family.samples]
