"""`/v1/aliases` and reloading, on the real gateway: everything that reads aliases sees the new ones."""

import asyncio
import json
from pathlib import Path

import pytest
import uvloop

from mana_llm.schema.errors import ProviderConnectError
from mana_llm.settings import Secret
from tests.caller import begin_chat, call, chat, counted
from tests.world import gateway

OLD = """\
aliases:
  mana/a:
    description: For all
    chain: [ollama/sim.ok, groq/sim.ok, mistral/x]
    ttft_s: 9
    on_incapable: skip
    fallback_on: [ProviderTruncatedError, ProviderAuthError]
  mana/e: {kind: embeddings, chain: [openai/text-embedding-3-small]}
default: mana/a
"""
NEW = "aliases: {mana/b: {description: Others, chain: [openai/sim.ok]}}\ndefault: mana/b\n"
BAD = OLD.replace("chain:", "chian:", 1)


def write(folder: Path, text: str) -> None:
    (folder / "aliases.yaml").write_text(text, encoding="utf-8")


async def reload(port: int):
    return await call(port, "POST /v1/aliases/reload")


def test_aliases_are_listed_when_asked_for(tmp_path):
    """Default, version, when it was loaded; each alias with its policy, each entry with who it is and how it is."""

    async def main() -> None:
        async with gateway(OLD, tmp_path, mistral_api_key=Secret()) as running:
            registry = running.application.aliases
            for _ in range(2):
                running.application.health.mark_unhealthy("groq", ProviderConnectError("refused"))
            answer = await call(running.port, "GET /v1/aliases")
            rows = {row["alias"]: row for row in answer.json.pop("data")}
            top = {name: value for name, value in answer.json.items() if name != "data"}
            assert top == {
                "object": "list",
                "default": "mana/a",
                "version": registry.version,
                "loaded_at": registry.table.loaded_at,
            }
            assert abs(top["loaded_at"] - running.application.clock.wall_s()) < 60
            assert rows["mana/a"] == {
                "alias": "mana/a",
                "description": "For all",
                "kind": "chat",
                "ttft_s": 9.0,
                "on_incapable": "skip",
                "fallback_on": ["ProviderAuthError", "ProviderTruncatedError"],
                "chain": [
                    {"model": "ollama/sim.ok", "provider": "ollama", "configured": True, "healthy": True},
                    {"model": "groq/sim.ok", "provider": "groq", "configured": True, "healthy": False},
                    {"model": "mistral/x", "provider": "mistral", "configured": False, "healthy": False},
                ],
            }
            assert rows["mana/e"]["kind"] == "embeddings"
            assert (await call(running.port, "HEAD /v1/aliases")).status == 200

    uvloop.run(main())


def test_everything_sees_the_new_aliases_when_they_are_reloaded(tmp_path):
    """Chains, the list of models, labels of metrics and headers follow at once; what is gone is a 404."""

    async def main() -> None:
        async with gateway(OLD, tmp_path) as running:
            port = running.port
            before = await chat(port, "mana/a")
            write(tmp_path, NEW)
            told = await reload(port)
            registry = running.application.aliases
            assert told.json == {
                "object": "aliases.reload",
                "result": "ok",
                "version": registry.version,
                "warnings": [],
            }
            after = await chat(port, "")
            assert after.headers["x-mana-llm-resolved"] == "openai/sim.ok"
            assert after.headers["x-mana-llm-config"] == registry.version != before.headers["x-mana-llm-config"]
            assert (await chat(port, "mana/a")).error["code"] == "model_not_found"
            listed = (await call(port, "GET /v1/models")).json["data"]
            assert [row["id"] for row in listed if row["id"].startswith("mana/")] == ["mana/b"]
            metrics = (await call(port, "GET /metrics")).body
            assert counted(metrics, "mana_llm_requests_total", model="mana/b", status="200") == 1
            assert counted(metrics, "mana_llm_config_reloads_total", result="ok") == 1

    uvloop.run(main())


def test_stream_keeps_its_chain_when_the_aliases_are_reloaded(tmp_path):
    """A stream that waits for its first entry walks on along the chain that it began with."""
    slow = "aliases: {mana/a: {chain: [ollama/sim.hang, openai/sim.ok]}}\ndefault: mana/a\n"

    async def main() -> None:
        async with gateway(slow, tmp_path, ollama_timeout=0.5) as running:
            version = running.application.aliases.version
            stream = await begin_chat(running.port, "mana/a", stream=True)
            await running.simulator.wait_until(lambda: any(entry.method == "POST" for entry in running.simulator.log))
            write(tmp_path, NEW)
            assert (await reload(running.port)).json["result"] == "ok"
            answer = await stream.whole()
            assert answer.headers["x-mana-llm-resolved"] == "openai/sim.ok"
            assert answer.headers["x-mana-llm-config"] == version
            assert answer.events[-1] == "[DONE]"

    uvloop.run(main())


def test_reload_is_refused_when_the_file_is_bad(tmp_path):
    """A 422 in OpenAI's shape names file, line, key and the nearest; the old aliases answer, and it is counted."""

    async def main() -> None:
        async with gateway(OLD, tmp_path) as running:
            write(tmp_path, BAD)
            refused = await reload(running.port)
            assert (refused.status, refused.error["code"]) == (422, "aliases_rejected")
            assert refused.error["message"] == (
                f"{tmp_path}/aliases.yaml: line 4: mana/a: 'chian' is not a key here. Did you mean chain?"
            )
            assert (await chat(running.port, "mana/a")).status == 200
            metrics = (await call(running.port, "GET /metrics")).body
            assert counted(metrics, "mana_llm_config_reloads_total", result="rejected") == 1
            assert counted(metrics, "mana_llm_config_last_reload_successful") == 0
            write(tmp_path, OLD)
            assert (await reload(running.port)).json["result"] == "unchanged"
            metrics = (await call(running.port, "GET /metrics")).body
            assert counted(metrics, "mana_llm_config_last_reload_successful") == 1

    uvloop.run(main())


def test_change_is_noticed_when_nobody_tells(tmp_path):
    """A changed file is taken within five seconds of the writing."""

    async def main() -> None:
        async with gateway(OLD, tmp_path) as running:
            version = running.application.aliases.version
            write(tmp_path, NEW)
            async with asyncio.timeout(5.0):
                while running.application.aliases.version == version:  # noqa: ASYNC110 - nobody is told
                    await asyncio.sleep(0.02)
            assert (await chat(running.port, "mana/b")).status == 200

    uvloop.run(main())


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/chat/completions", {"model": "mana/e", "messages": [{"role": "user", "content": "x"}]}, "/v1/embeddings"),
        ("/v1/embeddings", {"model": "mana/a", "input": "x"}, "use mana/e"),
    ],
)
def test_alias_is_refused_when_it_serves_another_path(tmp_path, path, body, says):
    """An embeddings alias answers no chat, a chat alias gives no embeddings: a 400 says what to use."""

    async def main() -> None:
        async with gateway(OLD, tmp_path) as running:
            answer = await call(running.port, f"POST {path}", json.dumps(body).encode())
            assert (answer.status, answer.error["code"]) == (400, "wrong_alias_kind")
            assert says in answer.error["message"]
            assert not [entry for entry in running.simulator.log if entry.method == "POST"]

    uvloop.run(main())


def test_reload_needs_a_key_when_keys_are_set(tmp_path):
    """Neither the list nor a reload is open to strangers."""

    async def main() -> None:
        async with gateway(OLD, tmp_path, gpu_api_key=Secret("k")) as running:
            assert (await call(running.port, "GET /v1/aliases")).status == 401
            assert (await reload(running.port)).status == 401

    uvloop.run(main())
