"""`GET /v1/aliases/{alias}/explain` and `mana-llm explain`: what the walk would do now."""

import os
import subprocess
import sys

import pytest
import uvloop

from mana_llm.schema.errors import ProviderServerError
from mana_llm.settings import Secret
from tests.caller import call, chat
from tests.world import World, gateway, world

ALIASES = """
aliases:
  mana/plain: {chain: [openai/one, groq/two]}
  mana/tools: {chain: [ollama/gemma3:4b, ollama/qwen3:8b], on_incapable: skip}
  mana/strict: {chain: [ollama/gemma3:4b, ollama/qwen3:8b]}
  mana/cloud: {chain: [groq/openai/gpt-oss-20b, google/gemini-3.5-flash-lite], on_incapable: skip}
  mana/hedged: {chain: [openai/one, groq/two], hedge_after_s: 0.5}
  mana/embed: {kind: embeddings, chain: [openai/text-embedding-3-small]}
default: mana/plain
"""


async def explained(running: World, alias: str, query: str = "") -> dict:
    answer = await call(running.port, f"GET /v1/aliases/{alias}/explain{query}")
    assert answer.status == 200, answer.body
    return answer.json


def rows(told: dict) -> list[tuple[str, str, str | None]]:
    return [(row["model"], row["decision"], row["reason"]) for row in told["chain"]]


def asked(tmp_path, alias: str, query: str = "", **settings) -> dict:
    async def main() -> dict:
        async with gateway(ALIASES, tmp_path, **settings) as running:
            return await explained(running, alias, query)

    return uvloop.run(main())


def test_explanation_keeps_every_entry_when_all_is_well(tmp_path):
    """Healthy entries are kept, and the first of them is who would be asked."""
    told = asked(tmp_path, "mana/plain")
    assert rows(told) == [("openai/one", "kept", None), ("groq/two", "kept", None)]
    assert (told["alias"], told["answers"], told["needs"]) == ("mana/plain", "openai/one", [])
    assert told["version"]


def test_explanation_skips_an_entry_when_it_is_not_configured(tmp_path):
    """Without its key a provider is skipped, and the detail says what would configure it."""
    told = asked(tmp_path, "mana/plain", openai_api_key=Secret())
    assert rows(told)[0] == ("openai/one", "skipped", "unconfigured")
    assert told["chain"][0]["detail"] == "set OPENAI_API_KEY"
    assert told["answers"] == "groq/two"


def test_explanation_skips_an_entry_when_it_rests(tmp_path):
    """A provider in back-off is skipped with the error that put it there; explaining is no trial."""

    async def main() -> dict:
        async with gateway(ALIASES, tmp_path) as running:
            for _ in range(2):
                running.application.health.mark_unhealthy("openai", ProviderServerError("down"))
            await explained(running, "mana/plain")
            return await explained(running, "mana/plain")

    told = uvloop.run(main())
    assert rows(told)[0] == ("openai/one", "skipped", "cache-unhealthy")
    assert "ProviderServerError" in told["chain"][0]["detail"]


def test_explanation_skips_an_entry_when_its_places_are_taken_and_nobody_may_wait(tmp_path):
    """A full provider whose queue has no place is skipped as saturated."""

    async def main() -> dict:
        async with gateway(ALIASES, tmp_path, ollama_max_concurrent=1, queue_max=0) as running:
            assert running.application.admission.gates["ollama"].enter_now()
            return await explained(running, "mana/tools")

    told = uvloop.run(main())
    assert {row[1:] for row in rows(told)} == {("skipped", "saturated")}
    assert told["answers"] is None


def test_explanation_waits_when_places_are_taken_and_somebody_may_wait(tmp_path):
    """A full provider is waited for, as long as the request may take where nobody else could be asked."""

    async def main() -> dict:
        async with gateway(ALIASES, tmp_path, ollama_max_concurrent=1, total_s=90.0) as running:
            assert running.application.admission.gates["ollama"].enter_now()
            return await explained(running, "mana/tools")

    told = uvloop.run(main())
    assert {row[1:] for row in rows(told)} == {("waits", None)}
    assert told["answers"] == "ollama/gemma3:4b"
    assert told["expected_wait_s"] == told["chain"][0]["expected_wait_s"] < told["chain"][0]["wait_s_max"] == 90.0


@pytest.mark.parametrize(
    ("alias", "first", "second", "answers"),
    [
        ("mana/tools", ("skipped", "capability"), ("kept", None), "ollama/qwen3:8b"),
        ("mana/strict", ("ends", "ProviderCapabilityError"), ("unreached", None), None),
    ],
)
def test_explanation_tells_what_a_model_cannot_do_when_a_feature_is_named(tmp_path, alias, first, second, answers):
    """A model without tools is skipped where the alias says so, else it ends the walk and nobody after it is reached;
    without tools all are kept.
    """
    told = asked(tmp_path, alias, "?tools")
    assert rows(told) == [("ollama/gemma3:4b", *first), ("ollama/qwen3:8b", *second)]
    assert told["answers"] == answers
    assert {row[1] for row in rows(asked(tmp_path, alias, "?tools=false"))} == {"kept"}


@pytest.mark.parametrize("query", ["?tools&tools", "?tools=0&tools&tools=true", "?tools=1&json=0"])
def test_explanation_names_a_feature_once_when_it_is_given_twice(tmp_path, query):
    """What a request is said to have is told once, however often it is named."""
    assert asked(tmp_path, "mana/plain", query)["needs"] == ["tools"]


def test_explanation_asks_the_catalogue_when_a_cloud_is_known_to_lack_a_feature(tmp_path):
    """A cloud's model that is not known to see is skipped for a request with an image."""
    told = asked(tmp_path, "mana/cloud", "?image=1&stream")
    assert rows(told)[0] == ("groq/openai/gpt-oss-20b", "skipped", "capability")
    assert told["answers"] == "google/gemini-3.5-flash-lite"
    assert told["needs"] == ["image", "stream"]


def test_explanation_agrees_with_the_walk_when_a_request_is_sent(tmp_path):
    """Who is said to answer answers."""
    tools = [{"type": "function", "function": {"name": "any", "parameters": {"type": "object"}}}]

    async def main() -> tuple[str, str]:
        async with gateway(ALIASES, tmp_path) as running:
            told = await explained(running, "mana/tools", "?tools")
            answer = await chat(running.port, "mana/tools", tools=tools)
            return told["answers"], answer.headers["x-mana-llm-resolved"]

    said, did = uvloop.run(main())
    assert said == did == "ollama/qwen3:8b"


def test_explanation_tells_the_state_when_the_alias_is_for_embeddings(tmp_path):
    """An alias for embeddings is explained by the state of its providers."""
    assert asked(tmp_path, "mana/embed")["answers"] == "openai/text-embedding-3-small"


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("mana/plane/explain", 404, "mana/plain"),
        ("mana/plain", 404, "explain"),
        ("mana/plain/explain?tool=1", 400, "tools"),
        ("mana/plain/explain?tools=perhaps", 400, "true or false"),
        ("mana/embed/explain?tools", 400, "embeddings"),
        ("mana/embed/explain?stream=1", 400, "stream"),
    ],
)
def test_explanation_is_refused_when_the_question_is_wrong(tmp_path, path, status, word):
    """An unknown alias, path or feature is an error that names what would be right."""

    async def main():
        async with gateway(ALIASES, tmp_path) as running:
            return await call(running.port, f"GET /v1/aliases/{path}")

    answer = uvloop.run(main())
    assert answer.status == status
    assert word in answer.error["message"]


def run_command(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mana_llm", "explain", *arguments]
    environment = {**os.environ, "PORT": str(port)}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)


def test_command_prints_the_chain_when_a_gateway_runs(tmp_path):
    """`mana-llm explain mana/tools --tools` prints each entry with its reason, and who would be asked."""
    with world(ALIASES, tmp_path) as running:
        done = run_command(running.port, "mana/tools", "--tools")
        hedged = run_command(running.port, "mana/hedged")
        unknown = run_command(running.port, "mana/nobody")
    assert done.returncode == 0, done.stderr
    assert "capability" in done.stdout
    assert "ollama/qwen3:8b would be asked first" in done.stdout
    assert "openai/one would be asked first, another as well after 0.5 s of silence" in hedged.stdout
    assert unknown.returncode == 1
    assert "does not exist" in unknown.stderr


def test_command_says_who_would_be_asked_when_a_place_must_come_free(tmp_path):
    """Where requests merely wait somebody would answer: the exit code is 0, and the wait is told."""
    with world(ALIASES, tmp_path, ollama_max_concurrent=1) as running:
        gate = running.application.admission.gates["ollama"]
        assert running.run(gate.enter_now)
        done = run_command(running.port, "mana/tools")
        running.run(gate.leave)
    assert done.returncode == 0, done.stderr
    assert "waits" in done.stdout
    assert "ollama/gemma3:4b would be asked first, after a wait of about" in done.stdout


def test_command_asks_for_a_stream_when_it_is_told_to(tmp_path):
    """`--stream` is for a streamed request, as `stream` is in the path's query."""
    with world(ALIASES, tmp_path) as running:
        done = run_command(running.port, "mana/plain", "--stream")
        refused = run_command(running.port, "mana/embed", "--stream")
    assert done.returncode == 0, done.stderr
    assert (refused.returncode, "without stream" in refused.stderr) == (1, True)


def test_command_fails_when_the_walk_ends_before_anybody_is_asked(tmp_path):
    """An entry that ends the walk hides those after it: nobody would answer, and the exit code is 1."""
    with world(ALIASES, tmp_path) as running:
        done = run_command(running.port, "mana/strict", "--tools")
    assert done.returncode == 1
    assert "unreached" in done.stdout
    assert "Nobody would answer mana/strict" in done.stderr


def test_command_fails_when_nobody_would_answer(tmp_path):
    """Without an entry that could be asked the exit code is 1."""
    with world(ALIASES, tmp_path, openai_api_key=Secret(), groq_api_key=Secret()) as running:
        done = run_command(running.port, "mana/plain")
    assert done.returncode == 1
    assert "Nobody would answer mana/plain" in done.stderr
