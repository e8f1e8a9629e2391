"""What operators are told of health, over HTTP."""

import time

import pytest
import uvloop

from mana_llm.settings import Secret
from tests.caller import begin_chat, call, chat, counted
from tests.world import World, gateway

MEMBERS = [
    "configured",
    "healthy",
    "state",
    "consecutive_failures",
    "last_error",
    "last_success_at",
    "unhealthy_until",
    "in_flight",
    "max_concurrent",
]
BAD = "sim.status.code-503"


async def told(running: World, name: str) -> dict:
    found = await call(running.port, "GET /v1/health")
    assert found.status == 200
    return found.json["providers"][name]


def test_every_provider_is_told_of_when_nothing_happened_yet():
    """Those that are not configured too, each with all members; nothing has failed or succeeded."""

    async def main() -> None:
        async with gateway(groq_api_key=Secret(), max_concurrent=("openai=7",)) as running:
            found = await call(running.port, "GET /v1/health")
            assert found.json["status"] == "healthy"
            rows = found.json["providers"]
            assert list(rows) == list(running.application.entries)
            assert all(list(row) == MEMBERS for row in rows.values())
            # As in /v1/aliases: nobody who is not configured would be asked.
            assert (rows["groq"]["configured"], rows["groq"]["healthy"]) == (False, False)
            untouched = dict.fromkeys(MEMBERS) | {"healthy": True, "state": "healthy", "consecutive_failures": 0}
            assert rows["openai"] == untouched | {"configured": True, "in_flight": 0, "max_concurrent": 7}
            assert rows["ollama"]["max_concurrent"] == 3
            assert rows["google"]["max_concurrent"] is None
            # Who asks for health is no client: those figures are not drowned by it.
            assert counted(running.application.metrics.text(), "mana_llm_requests_total") == 0

    uvloop.run(main())


def test_failures_are_told_when_there_were_some():
    """State, count, the error's class and Unix times, and nothing of what the request said."""

    async def main() -> None:
        async with gateway(health_backoff_s=60.0) as running:
            began = time.time()
            assert (await chat(running.port, "openai/sim.ok")).status == 200
            assert (await chat(running.port, f"openai/{BAD}")).status == 503
            row = await told(running, "openai")
            assert (row["healthy"], row["state"], row["consecutive_failures"]) == (True, "healthy", 1)
            assert row["last_error"] == "ProviderServerError"
            assert began - 0.1 <= row["last_success_at"] <= time.time() + 0.1
            assert row["unhealthy_until"] is None
            await chat(running.port, f"openai/{BAD}")
            row = await told(running, "openai")
            assert (row["healthy"], row["state"], row["consecutive_failures"]) == (False, "tripped", 2)
            assert began + 59.9 <= row["unhealthy_until"] <= time.time() + 90.1

    uvloop.run(main())


def test_requests_under_way_are_told_when_there_are_some():
    """`in_flight` counts the requests that a provider has been given."""

    async def main() -> None:
        async with gateway(drain_s=0.1) as running:
            running.simulator.log.clear()
            exchange = await begin_chat(running.port, "ollama/sim.hang")
            await running.simulator.wait_until(lambda: any(entry.method == "POST" for entry in running.simulator.log))
            assert (await told(running, "ollama"))["in_flight"] == 1
            exchange.close()

    uvloop.run(main())


@pytest.mark.parametrize(("ill", "status"), [(0, "healthy"), (1, "degraded"), (2, "unhealthy")])
def test_whole_is_as_well_as_its_parts_when_asked_for_short(ill, status):
    """`/health` is always a 200: degraded when a configured provider is out, unhealthy when all are; others are not
    named.
    """

    async def main() -> None:
        async with gateway(ollama_url="", google_api_key=Secret()) as running:
            names = [name for name, entry in running.application.entries.items() if entry.provider]
            # As many as the case needs: the rest of the clouds fail first, or none of them.
            failing = names if ill == 2 else names[:ill]
            for name in failing:
                for _ in range(2):
                    await chat(running.port, f"{name}/{BAD}")
            found = await call(running.port, "GET /health")
            assert found.status == 200
            assert found.json["status"] == status
            wanted = {name: "unhealthy: ProviderServerError" if name in failing else "healthy" for name in names}
            assert found.json["providers"] == wanted
            assert (await call(running.port, "GET /v1/health")).json["status"] == status

    uvloop.run(main())


def test_details_need_a_key_when_callers_do():
    """`/health` is open for orchestrators; what `/v1/health` tells of load and limits is for callers."""

    async def main() -> None:
        async with gateway(gpu_api_key=Secret("caller")) as running:
            assert (await call(running.port, "GET /health")).status == 200
            assert (await call(running.port, "GET /v1/health")).status == 401
            key = {"Authorization": "Bearer caller"}
            assert (await call(running.port, "GET /v1/health", headers=key)).status == 200

    uvloop.run(main())
