"""What a test of the walk's table looks at: what the client was told, and what the provider's health has learnt."""

from typing import Any

import pytest

from tests.caller import Answer, call
from tests.routing.walk_cases import SOFT_COMMIT_S, Case
from tests.world import World


def softly(case: Case, *, stream: bool) -> bool:
    """Whether the status has left when it happens."""
    return stream and case.after_s > SOFT_COMMIT_S


def told(answer: Answer, status: int, *, soft: bool) -> Any:
    """The error that the client is told: with a status, or after a soft commit by an event and the end marker."""
    if not soft:
        assert answer.status == status
        return answer.error
    *chunks, event, end = answer.events
    assert (answer.status, end) == (200, "[DONE]")
    assert not any("error" in chunk for chunk in chunks)
    assert not answer.text
    return event["error"]


async def health_of(running: World, provider: str) -> Any:
    """What `GET /v1/health` says of a provider."""
    return (await call(running.port, "GET /v1/health")).json["providers"][provider]


async def learnt(running: World, provider: str) -> Any:
    """What the provider's health has learnt, in the table's words, or the seconds for which it rests."""
    health = await health_of(running, provider)
    if health["unhealthy_until"] is None:
        assert health["state"] == "healthy"
        return {0: "none", 1: "failure"}[health["consecutive_failures"]]
    assert (health["state"], health["consecutive_failures"]) == ("tripped", 1)
    return health["unhealthy_until"] - running.application.clock.wall_s()


async def assert_learnt(running: World, case: Case) -> None:
    """A Retry-After is kept to within 5 %; parked is ten minutes."""
    provider = case.model.partition("/")[0]
    found = await learnt(running, provider)
    assert (await health_of(running, provider))["last_error"] == (None if case.health == "none" else case.reason)
    if case.health in ("failure", "none"):
        assert found == case.health
    elif case.health == "parked":
        assert found == pytest.approx(600.0, abs=0.001)
    else:
        assert case.health - 0.001 <= found <= case.health * 1.05 + 0.001
