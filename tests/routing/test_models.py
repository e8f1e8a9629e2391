"""The directory of models: providers' lists, fetched side by side."""

import asyncio
import json

import uvloop

from mana_llm.routing.models import FRESH_S, LISTS_S, RETRY_S
from tests.caller import call
from tests.puppet import puppet
from tests.world import gateway

DEAD = "http://127.0.0.1:9/v1"


async def listed(running) -> dict[str, list[str]]:
    """The ids by provider, as a client gets them."""
    rows = (await call(running.port, "GET /v1/models")).json["data"]
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["id"].partition("/")[0], []).append(row["id"])
    return found


def asked(running, path: str) -> int:
    """How often a list was asked for."""
    return sum(entry.method == "GET" and entry.path.endswith(path) for entry in running.simulator.log)


def turn(running, seconds: float) -> None:
    """Let the directory's clock go on."""
    before = running.application.models._now_s
    running.application.models._now_s = lambda: before() + seconds


def test_lists_come_when_one_provider_is_silent():
    """A provider that never answers delays the first list by two seconds at the most, and later ones by nothing."""

    async def never(reader, writer) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with puppet(never) as url, gateway(groq_base_url=url) as running:
            loop = asyncio.get_running_loop()
            began_at = loop.time()
            first = await listed(running)
            assert loop.time() - began_at <= LISTS_S + 0.5
            assert set(first) == {"mana", *running.application.entries} - {"groq"}
            began_at = loop.time()
            assert await listed(running) == first
            assert loop.time() - began_at <= 0.5

    uvloop.run(main())


def test_list_is_the_others_when_one_provider_is_dead():
    """A provider that refuses connections is left out, with its reason; the others and the aliases are there."""

    async def main() -> None:
        async with gateway(groq_base_url=DEAD) as running:
            found = await listed(running)
            assert set(found) == {"mana", *running.application.entries} - {"groq"}
            assert running.application.models.problem("groq").startswith("ProviderConnectError")
            assert running.application.models.problem("openai") is None

    uvloop.run(main())


def test_list_is_kept_when_it_is_asked_again():
    """A list that came is not asked for again before it is stale, however many clients ask."""

    async def main() -> None:
        async with gateway() as running:
            await asyncio.gather(*(listed(running) for _ in range(20)))
            assert asked(running, "/api/tags") == 1
            turn(running, FRESH_S + 1)
            await listed(running)
            await running.simulator.wait_until(lambda: asked(running, "/api/tags") == 2)

    uvloop.run(main())


def test_failed_list_is_asked_again_when_a_while_has_passed():
    """A list that failed is asked for again after a while, not at every call, and then it is there."""

    async def main() -> None:
        async with gateway() as running:
            models = running.application.models
            await listed(running)
            running.simulator.script("sim.status.code-500", path="/api/tags", times=1)
            models._lists.pop("ollama")
            models._due_s["ollama"] = 0.0
            assert "ollama" not in await listed(running)
            count = asked(running, "/api/tags")
            assert "ollama" not in await listed(running)
            assert asked(running, "/api/tags") == count
            turn(running, RETRY_S + 1)
            async with asyncio.timeout(5):
                while "ollama" not in await listed(running):  # noqa: ASYNC110 - the list itself is what is asked
                    await asyncio.sleep(0.005)

    uvloop.run(main())


def test_old_list_is_served_when_a_newer_one_fails():
    """A provider that lists no more keeps the list that it had."""

    async def main() -> None:
        async with gateway() as running:
            before = await listed(running)
            turn(running, FRESH_S + 1)
            running.simulator.script("sim.html", path="/api/tags")
            await listed(running)
            await running.simulator.wait_until(lambda: asked(running, "/api/tags") == 2)
            assert (await listed(running))["ollama"] == before["ollama"]

    uvloop.run(main())


def test_listed_names_are_known_when_they_have_come():
    """A listed model has a name of its own in the metrics; one that nobody lists does not."""

    async def main() -> None:
        async with gateway() as running:
            found = await listed(running)
            knows = running.application.models.knows
            assert all(knows(name) for names in found.values() for name in names)
            assert not knows("openai/nobody-has-it")

    uvloop.run(main())


def test_one_is_found_when_its_name_is_encoded():
    """Slashes and colons may be percent-encoded or not."""

    async def main() -> None:
        async with gateway() as running:
            name = (await listed(running))["ollama"][0]
            for path in (name, name.replace("/", "%2F").replace(":", "%3A")):
                answer = await call(running.port, f"GET /v1/models/{path}")
                assert json.loads(answer.body)["id"] == name
            assert (await call(running.port, "GET /v1/models/ollama/none")).status == 404

    uvloop.run(main())
