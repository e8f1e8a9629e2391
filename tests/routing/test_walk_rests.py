"""What comes of a row of the walk's table for the requests after it: who rests, how long, and how a rest ends."""

import asyncio

import pytest

from tests import jumping
from tests.caller import chat, counted
from tests.routing.walk_cases import CASES, FALLBACK, Case, aliases_of, settings_of
from tests.routing.walk_seen import health_of
from tests.world import World, gateway

BACKOFF_S = (60.0, 90.0)
INSTANT_S = 0.002
"""Seconds: what stands between two instants where `/v1/health` tells them to the millisecond."""

# One of each kind, and who is silent.
KINDS = list({(case.reason, case.walks, str(case.health), case.after_s, case.streams): case for case in CASES}.values())


def rest_of(case: Case) -> tuple[float, float]:
    """The least and the most seconds for which its provider rests."""
    if isinstance(case.health, float):
        return case.health, case.health * 1.05
    return (600.0, 600.0) if case.health == "parked" else BACKOFF_S


async def is_asked(running: World, case: Case) -> bool:
    """Whether the case's provider is asked by a request for the chain, which somebody answers or refuses."""
    provider = case.model.partition("/")[0]

    def calls() -> float:
        return counted(running.application.metrics.text(), "mana_llm_llm_requests_total", provider=provider)

    before = calls()
    answer = await chat(running.port, "mana/two", stream=case.streams[-1], **case.fields)
    assert case.walks == (answer.status == 200)
    return calls() > before


@pytest.mark.parametrize("case", [case for case in KINDS if case.health != "none"], ids=lambda case: case.name)
def test_provider_rests_as_long_as_the_table_says_when_it_has_failed(case, tmp_path):
    """A failure is forgiven once, a wish and an empty account are not; who rests is not asked until the very end of
    it, whatever probes say, and is asked then.
    """
    provider = case.model.partition("/")[0]
    least_s, most_s = rest_of(case)

    async def main() -> None:
        with settings_of(case) as settings:
            async with gateway(aliases_of(case.model, FALLBACK), tmp_path, **settings) as running:
                clock = running.application.clock
                assert await is_asked(running, case)
                if case.health == "failure":
                    assert (await health_of(running, provider))["state"] == "healthy"
                    assert await is_asked(running, case)
                health = await health_of(running, provider)
                assert (health["state"], health["healthy"], health["last_error"]) == ("tripped", False, case.reason)
                rest_s = health["unhealthy_until"] - clock.wall_s()
                assert least_s - INSTANT_S <= rest_s <= most_s + INSTANT_S
                assert not await is_asked(running, case)
                await asyncio.sleep(rest_s - INSTANT_S)
                assert not await is_asked(running, case)
                await asyncio.sleep(2 * INSTANT_S)
                assert (await health_of(running, provider))["state"] == "probing"
                assert await is_asked(running, case)
                assert (await health_of(running, provider))["state"] == "tripped"

    jumping.run(main())


@pytest.mark.parametrize("case", [case for case in KINDS if case.health == "none"], ids=lambda case: case.name)
def test_provider_is_asked_again_and_again_when_health_learns_nothing(case, tmp_path):
    """What says nothing about the provider never makes it rest."""
    provider = case.model.partition("/")[0]

    async def main() -> None:
        with settings_of(case) as settings:
            async with gateway(aliases_of(case.model, FALLBACK), tmp_path, **settings) as running:
                for _ in range(4):
                    # What cannot be asked for is refused each time.
                    assert await is_asked(running, case) == (case.reason != "ProviderCapabilityError")
                health = await health_of(running, provider)
                assert (health["state"], health["consecutive_failures"]) == ("healthy", 0)

    jumping.run(main())
