"""What hedging costs: how many more calls it makes, and that its budget holds."""

import asyncio

import uvloop

from tests.caller import begin_chat, chat
from tests.gateway.staged import stage, until, whole

ALIAS = "mana/three"


async def load(folder, requests: int, slow_every: int) -> float:
    """Extra calls per request where every so many-th request meets a slow first entry; all at once."""
    async with stage(folder, "hedge_after_s: 0.1") as on:
        aliases = on.running.application.aliases
        assert aliases.resolve(ALIAS).policy.hedge_after_s == 0.1
        on.actors[0].always(whole("first"))
        on.actors[1].always(whole("second"))
        for at in range(0, requests, slow_every):
            for _ in range(slow_every - 1 if at + slow_every <= requests else 0):
                assert (await chat(on.port, ALIAS)).status == 200
            on.actors[0]._repeats = None
            assert (await chat(on.port, ALIAS)).text == "second"
            on.actors[0].always(whole("first"))
            await until(lambda: not on.actors[0].here)
        await until(on.quiet)
        calls, asked = on.count("mana_llm_llm_requests_total"), on.count("mana_llm_requests_total")
        hedges = on.count("mana_llm_hedges_total")
        assert calls == asked + hedges
        return hedges / asked


def test_extra_load_stays_small_when_one_in_twenty_is_slow(tmp_path):
    """R26 (100 of 100): a hedge at the p95, one request in twenty slower than that: at most 6 % more calls, each
    hedged request answered by the hedge, counted once, its loser let go.
    """
    assert uvloop.run(load(tmp_path, 100, 20)) <= 0.06


def test_extra_load_stays_small_when_every_request_is_slow(tmp_path):
    """R26 (200 of 200): where all are slow, the budget holds: 1 + a twentieth of the requests are hedged."""

    async def main() -> None:
        async with stage(tmp_path, "hedge_after_s: 0.02") as on:
            on.actors[1].always(whole("second"))
            exchanges = [await begin_chat(on.port, ALIAS) for _ in range(200)]
            await until(lambda: on.count("mana_llm_in_flight") + on.count("mana_llm_requests_total") == 200)
            await until(lambda: on.actors[0].asked_count == 200)
            await asyncio.sleep(0.1)
            hedges = on.count("mana_llm_hedges_total")
            assert 1 <= hedges <= 0.06 * 200
            assert on.actors[1].asked_count == hedges
            for exchange in exchanges:
                exchange.close()
            await until(on.quiet)

    uvloop.run(main())
