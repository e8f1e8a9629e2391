"""An outage is not multiplied: what reaches providers when they are down, and what clients get meanwhile."""

import asyncio
import time
from typing import Final

import openai
import pytest
import uvloop

from tests.caller import call, chat, counted
from tests.measured import quietest
from tests.world import World, gateway

CHAIN = "aliases: {mana/three: {chain: [openai/one, groq/two, together/three]}}\ndefault: mana/three\n"
ALIAS = "mana/three"
ADDED_S = 0.002
FLOOR: Final = 3 + 3 * 2
"""What may be sent beyond the share: the budget's floor, and the failures that each provider is forgiven."""


def sent(running: World) -> int:
    """How many chat requests have reached the providers."""
    return sum(entry.method == "POST" for entry in running.simulator.log)


def asked(running: World, model: str) -> int:
    """How many chat requests have reached a model."""
    return sum(entry.method == "POST" and entry.model == model for entry in running.simulator.log)


async def offered(running: World, count: int, rate_per_s: float) -> list:
    """So many requests, begun at a rate, whatever becomes of them."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    tasks = []
    for number in range(count):
        await asyncio.sleep(max(0.0, began_at + number / rate_per_s - loop.time()))
        tasks.append(asyncio.create_task(chat(running.port, ALIAS)))
    return await asyncio.gather(*tasks)


async def outage(folder, count: int, rate_per_s: float, **settings) -> tuple[float, list]:
    """Every provider answers 503: calls beyond the floor per request offered, and the answers."""
    async with gateway(CHAIN, folder, probe_interval_s=0.0, **settings) as running:
        running.simulator.script("sim.status.code-503")
        answers = await offered(running, count, rate_per_s)
        assert {answer.status for answer in answers} == {503}
        assert all(len(answer.error["attempts"]) == 3 for answer in answers)
        return (sent(running) - FLOOR) / count, answers


def test_outage_is_not_multiplied_when_every_provider_fails(tmp_path):
    """R20 (200 of 6,000 requests): with every provider at 503, no more than 1.2 calls per request, and the floor."""
    share, _ = uvloop.run(outage(tmp_path, 200, 400.0))
    assert share <= 1.2


def test_outage_is_not_multiplied_when_health_forgives_everything(tmp_path):
    """R20 (200 of 6,000 requests): the budget alone holds the share, with health that never trips and every request
    at once; attempts say `retry-budget`.
    """

    async def main() -> None:
        async with gateway(CHAIN, tmp_path, probe_interval_s=0.0, health_failures=10_000) as running:
            running.simulator.script("sim.status.code-503")
            # Now every provider has failed lately.
            assert (await chat(running.port, ALIAS)).status == 503
            running.simulator.script("sim.status.code-503.first-0.3")
            # All are under way before the first of them fails: the budget is a share of what runs at a time.
            answers = await offered(running, 200, 2_000.0)
            assert {answer.status for answer in answers} == {503}
            words = {row["reason"] for answer in answers for row in answer.error["attempts"]}
            assert words == {"ProviderServerError", "retry-budget"}
            for answer in answers:
                held_back = "retry-budget" in {row["reason"] for row in answer.error["attempts"]}
                # Somebody who was not asked for want of budget might have answered.
                assert ("x-should-retry" in answer.headers) is not held_back
                assert ("retry-after" in answer.headers) is held_back
            assert counted(running.application.metrics.text(), "mana_llm_fallback_total", reason="retry-budget") > 0
            assert asked(running, "one") == 201
            assert sent(running) - FLOOR <= 1.2 * 201

    uvloop.run(main())


@pytest.mark.long
def test_outage_is_not_multiplied_when_it_lasts_a_minute(tmp_path):
    """R20 (6,000 of 6,000 requests): 100 per second for a minute, every provider at 503."""
    share, _ = uvloop.run(outage(tmp_path, 6_000, 100.0))
    assert share <= 1.2


async def through_client(folder, count: int, retries: int, *, obeys: bool) -> tuple[float, int]:
    """Calls beyond the floor per call of the official client; and the requests that the client sent for them."""
    async with gateway(CHAIN, folder, probe_interval_s=0.0) as running:
        running.simulator.script("sim.status.code-503")
        client = openai.AsyncOpenAI(base_url=running.v1, api_key="none", max_retries=retries)
        if not obeys:
            # A client of the same kind that does not know the header.
            client._should_retry = lambda response: response.status_code >= 500  # type: ignore[method-assign]
            client._calculate_retry_timeout = lambda *_, **__: 0.0  # type: ignore[method-assign]
        messages = [{"role": "user", "content": "Hello"}]
        for _ in range(count):
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model=ALIAS, messages=messages)
        await client.close()
        requests = counted(running.application.metrics.text(), "mana_llm_requests_total")
        return (sent(running) - FLOOR) / count, int(requests)


def test_client_does_not_retry_when_the_chain_was_walked_in_vain(tmp_path):
    """R20 (50 calls): openai-python with its default retries honours `x-should-retry: false`: one request per call,
    and at most 1.2 provider calls for each.
    """
    share, requests = uvloop.run(through_client(tmp_path, 50, openai.DEFAULT_MAX_RETRIES, obeys=True))
    assert (requests, share <= 1.2) == (50, True)


@pytest.mark.parametrize("model", ["openai/sim.status.code-401", "google/sim.length"])
def test_client_does_not_retry_when_it_would_end_the_same(model):
    """openai-python with its default retries asks once where our key is refused, or a token ceiling was too low: the
    provider is called, and paid, once.
    """

    async def main() -> None:
        async with gateway() as running, openai.AsyncOpenAI(base_url=running.v1, api_key="any") as client:
            messages = [{"role": "user", "content": "Hello"}]
            with pytest.raises(openai.InternalServerError, check=lambda error: error.status_code == 502):
                await client.chat.completions.create(model=model, messages=messages)
            assert sent(running) == 1

    uvloop.run(main())


def test_outage_is_bounded_when_the_client_retries_all_the_same(tmp_path):
    """R20 (50 calls): a client that repeats twice whatever it is told causes at most 1.2 x 3 provider calls."""
    share, requests = uvloop.run(through_client(tmp_path, 50, 2, obeys=False))
    assert (requests, share <= 1.2 * 3) == (150, True)


def test_everybody_is_answered_when_the_next_provider_failed_once_long_ago(tmp_path):
    """Failing over to a healthy provider costs nothing, though its last answer to somebody else was a failure."""
    aliases = "aliases: {mana/two: {chain: [groq/sim.hang, openai/sim.ok.first-0.3], ttft_s: 0.5}}\ndefault: mana/two\n"

    async def main() -> None:
        async with gateway(aliases, tmp_path, probe_interval_s=0.0) as running:
            assert (await chat(running.port, "openai/sim.status.code-500")).status == 503
            answers = await asyncio.gather(*(chat(running.port, "mana/two", stream=True) for _ in range(40)))
            assert [answer.headers["x-mana-llm-resolved"] for answer in answers] == ["openai/sim.ok.first-0.3"] * 40

    uvloop.run(main())


async def hard_down(folder, count: int, rate_per_s: float) -> None:
    """The first provider is down under load; the others work."""
    async with gateway(CHAIN, folder, probe_interval_s=0.0) as running:
        running.simulator.script("sim.status.code-503", model="one")
        answers = await offered(running, count, rate_per_s)
        good = sum(answer.status == 200 for answer in answers)
        assert good >= count * 0.999
        assert {answer.headers["x-mana-llm-resolved"] for answer in answers if answer.status == 200} == {"groq/two"}
        assert asked(running, "one") <= 5


def test_clients_notice_nothing_when_the_first_provider_is_down(tmp_path):
    """R16 (300 requests of 200 per second): every client is answered, and the dead provider sees five at most."""
    uvloop.run(hard_down(tmp_path, 300, 200.0))


@pytest.mark.long
def test_clients_notice_nothing_when_the_first_provider_is_down_for_long(tmp_path):
    """R16 (6,000 requests of 200 per second): every client is answered, and the dead provider sees five at most."""
    uvloop.run(hard_down(tmp_path, 6_000, 200.0))


async def passing_by(folder, count: int) -> tuple[float, float]:
    """The p99 of asking the second provider directly, and that of asking it past the first, which is known to be
    dead.
    """
    async with gateway(CHAIN, folder, probe_interval_s=0.0) as running:
        running.simulator.script("sim.status.code-503", model="one")
        for _ in range(2):
            await chat(running.port, ALIAS)

        async def times_s(model: str) -> list[float]:
            found = []
            for _ in range(count):
                began_s = time.perf_counter()
                assert (await chat(running.port, model)).status == 200
                found.append(time.perf_counter() - began_s)
            return found

        return await quietest(
            lambda: times_s("groq/two"), lambda: times_s(ALIAS), lambda direct_s, by_s: by_s - direct_s <= ADDED_S
        )


def test_dead_entry_costs_next_to_nothing_when_it_is_known(tmp_path):
    """R16 (200 requests): once the dead provider is known, passing it by adds at most 2 ms to the p99 of asking the
    next provider directly.
    """
    direct_s, by_s = uvloop.run(passing_by(tmp_path, 200))
    assert by_s - direct_s <= ADDED_S, (direct_s, by_s)


@pytest.mark.long
def test_dead_entry_costs_next_to_nothing_when_it_is_known_for_long(tmp_path):
    """R16 (2,000 requests): once the dead provider is known, passing it by adds at most 2 ms to the p99 of asking the
    next provider directly.
    """
    direct_s, by_s = uvloop.run(passing_by(tmp_path, 2_000))
    assert by_s - direct_s <= ADDED_S, (direct_s, by_s)


RETRIED = {
    "openai/sim.status.code-503": "false",
    "openai/sim.status.code-429": None,
    "openai/sim.status.code-400": None,
    "openai/sim.status.code-401": "false",
    "google/sim.length": "false",
    "google/sim.filter": None,
    "openai/sim.ok": None,
    "mana/unknown": None,
}


@pytest.mark.parametrize("model", RETRIED)
def test_client_is_told_not_to_retry_only_when_that_would_be_in_vain(model):
    """`x-should-retry: false` comes with an exhausted chain, and with the errors that OpenAI's libraries would repeat
    although they can only end the same (a 502 for our key, or for a token ceiling), and with nothing else.
    """

    async def main() -> None:
        async with gateway() as running:
            answer = await chat(running.port, model)
            assert answer.headers.get("x-should-retry") == RETRIED[model]

    uvloop.run(main())


@pytest.mark.parametrize("head", ["GET /v1/models", "GET /health", "GET /v1/nothing"])
def test_client_is_not_told_about_retries_when_nothing_was_walked(head):
    """Routes that walk no chain say nothing about retries."""

    async def main() -> None:
        async with gateway() as running:
            assert "x-should-retry" not in (await call(running.port, head)).headers

    uvloop.run(main())
