"""What an alias asks for beside its chain, over the real gateway: its time limits, and what walks on."""

import pytest

from tests import jumping
from tests.caller import call, chat, counted
from tests.world import World, gateway

SHORT_S = 0.2
OTHER = "groq/sim.ok"
TOOLS = [{"type": "function", "function": {"name": "time"}}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
IMAGE = [{"role": "user", "content": [PICTURE]}]
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def chain(policy: str, *entries: str) -> str:
    """A file with one alias, `mana/one`."""
    listed = ", ".join(f"'{entry}'" for entry in entries)
    return f"aliases: {{mana/one: {{{policy}, chain: [{listed}]}}}}\ndefault: mana/one\n"


def steps(running: World, reason: str) -> float:
    return counted(running.application.metrics.text(), "mana_llm_fallback_total", reason=reason)


def posts(running: World) -> list[str]:
    """The models that were asked for a chat."""
    return [entry.model for entry in running.simulator.log if entry.method == "POST" and entry.path != "/api/show"]


@BOTH
@pytest.mark.parametrize("first", ["openai/sim.hang", "openai/sim.hang.how-body", "ollama/sim.hang"])
def test_next_entry_answers_when_the_aliass_first_token_limit_passes(first, stream, tmp_path):
    """`ttft_s` holds for plain and streamed requests, and instead of the gateway's own."""

    async def main() -> None:
        aliases = chain(f"ttft_s: {SHORT_S}", first, OTHER)
        async with gateway(aliases, tmp_path, ttft_s=30.0) as running:
            answer = await chat(running.port, "mana/one", stream=stream)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, OTHER)
            assert steps(running, "ProviderTimeoutError") == 1

    jumping.run(main())


def test_stream_goes_on_when_the_aliass_first_token_limit_is_over(tmp_path):
    """`ttft_s` ends with the first content: a stream may take longer than that."""

    async def main() -> None:
        aliases = chain(f"ttft_s: {SHORT_S}", "openai/sim.ok.chunks-8.pace-0.05", OTHER)
        async with gateway(aliases, tmp_path) as running:
            answer = await chat(running.port, "mana/one", stream=True)
            assert not any("error" in event for event in answer.events)
            assert answer.headers["x-mana-llm-resolved"].startswith("openai/")

    jumping.run(main())


def test_stream_ends_in_an_error_when_the_aliass_idle_limit_passes(tmp_path):
    """`idle_s`: silence after content is an in-band error, and instead of the gateway's own limit."""

    async def main() -> None:
        aliases = chain(f"idle_s: {SHORT_S}", "openai/sim.hang.how-chunks.after-2", OTHER)
        async with gateway(aliases, tmp_path, idle_s=30.0) as running:
            *_, error, end = (await chat(running.port, "mana/one", stream=True)).events
            assert (error["error"]["type"], end) == ("provider_timeout", "[DONE]")
            assert posts(running) == ["sim.hang.how-chunks.after-2"]

    jumping.run(main())


def test_next_entry_answers_when_a_plain_answer_falls_silent_beyond_the_aliass_limit(tmp_path):
    """`idle_s` within a plain answer, of which nothing was shown yet, walks on."""

    async def main() -> None:
        aliases = chain(f"idle_s: {SHORT_S}", "openai/sim.hang.how-body", OTHER)
        async with gateway(aliases, tmp_path, idle_s=30.0) as running:
            answer = await chat(running.port, "mana/one")
            assert answer.headers["x-mana-llm-resolved"] == OTHER

    jumping.run(main())


@BOTH
def test_walk_ends_in_504_when_the_aliass_total_is_over(stream, tmp_path):
    """`total_s` bounds the whole walk, entries that failed before included: 504 with a row for each entry, and no
    further one is asked.
    """

    async def main() -> None:
        aliases = chain(f"total_s: {SHORT_S}", "openai/sim.status.code-503", "openai/sim.hang", OTHER)
        async with gateway(aliases, tmp_path) as running:
            answer = await chat(running.port, "mana/one", stream=stream)
            assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
            rows = [(row["model"], row["reason"]) for row in answer.error["attempts"]]
            assert rows == [
                ("openai/sim.status.code-503", "ProviderServerError"),
                ("openai/sim.hang", "ProviderTimeoutError"),
                (OTHER, "deadline"),
            ]
            assert answer.headers["x-should-retry"] == "false"
            assert "sim.ok" not in posts(running)

    jumping.run(main())


@BOTH
@pytest.mark.parametrize("lack", ["tools", "image"])
@pytest.mark.parametrize("policy", ["skip", "error"])
def test_incapable_local_model_is_left_when_the_alias_says_skip(policy, lack, stream, tmp_path):
    """`on_incapable`: what the local server says of its model is a 400, or with `skip` a step to the next entry."""
    model, fields = {
        "tools": ("ollama/gemma3:4b", {"tools": TOOLS}),
        "image": ("ollama/qwen2.5:7b", {"messages": IMAGE}),
    }[lack]

    async def main() -> None:
        async with gateway(chain(f"on_incapable: {policy}", model, OTHER), tmp_path) as running:
            answer = await chat(running.port, "mana/one", stream=stream, **fields)
            paths = {entry.path for entry in running.simulator.log}
            assert "/api/show" in paths
            assert "/api/chat" not in paths
            if policy == "error":
                assert (answer.status, answer.error["code"]) == (400, "provider_capability")
                assert lack in answer.error["message"]
                return
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, OTHER)
            assert (answer.headers["x-mana-llm-attempts"], steps(running, "capability")) == ("1", 1)
            assert not running.application.health._breakers["ollama"].failures

    jumping.run(main())


@BOTH
@pytest.mark.parametrize("policy", ["skip", "error"])
def test_incapable_cloud_model_is_skipped_when_the_catalogue_says_so(policy, stream, tmp_path):
    """A cloud's model that is not known to see is skipped unasked where the alias says `skip`, and asked where not."""

    async def main() -> None:
        aliases = chain(f"on_incapable: {policy}", "groq/openai/gpt-oss-120b", "openai/gpt-4o")
        async with gateway(aliases, tmp_path) as running:
            answer = await chat(running.port, "mana/one", stream=stream, messages=IMAGE)
            assert answer.status == 200
            skipped = policy == "skip"
            assert answer.headers["x-mana-llm-resolved"] == ("openai/gpt-4o" if skipped else "groq/openai/gpt-oss-120b")
            assert posts(running) == ["gpt-4o" if skipped else "openai/gpt-oss-120b"]
            assert steps(running, "capability") == int(skipped)

    jumping.run(main())


def test_attempts_say_capability_when_no_entry_is_able(tmp_path):
    """Where every entry is skipped for it: a 503 whose attempts say `capability` and what is lacking."""

    async def main() -> None:
        aliases = chain("on_incapable: skip", "groq/openai/gpt-oss-120b", "groq/openai/gpt-oss-20b")
        async with gateway(aliases, tmp_path) as running:
            answer = await chat(running.port, "mana/one", messages=IMAGE)
            assert (answer.status, answer.headers["x-mana-llm-attempts"]) == (503, "0")
            assert [row["reason"] for row in answer.error["attempts"]] == ["capability", "capability"]
            assert all("vision" in row["detail"] for row in answer.error["attempts"])
            assert not posts(running)

    jumping.run(main())


ENDING = {
    "ProviderAuthError": "openai/sim.status.code-401",
    "ProviderBlockedError": "google/sim.filter",
    "ProviderTruncatedError": "google/sim.length",
    "ProviderRequestError": "openai/sim.status.code-404",
    "ProviderCapabilityError": "ollama/any",
}


def asking(name: str) -> dict:
    return {"modalities": ["audio"]} if name == "ProviderCapabilityError" else {}


@BOTH
@pytest.mark.parametrize("name", ENDING)
def test_next_entry_answers_when_the_alias_falls_back_on_the_error(name, stream, tmp_path):
    """`fallback_on`: each class that usually ends the walk goes on where it is listed; health still learns nothing."""

    async def main() -> None:
        async with gateway(chain(f"fallback_on: [{name}]", ENDING[name], OTHER), tmp_path) as running:
            answer = await chat(running.port, "mana/one", stream=stream, **asking(name))
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, OTHER)
            assert steps(running, name) == 1
            assert not any(breaker.failures for breaker in running.application.health._breakers.values())

    jumping.run(main())


@pytest.mark.parametrize("name", ENDING)
def test_walk_ends_when_the_alias_falls_back_on_other_errors_only(name, tmp_path):
    """An error that is not listed ends the walk as ever."""
    others = ", ".join(other for other in ENDING if other != name)

    async def main() -> None:
        async with gateway(chain(f"fallback_on: [{others}]", ENDING[name], OTHER), tmp_path) as running:
            answer = await chat(running.port, "mana/one", **asking(name))
            assert answer.status in (400, 404, 422, 502)
            assert "sim.ok" not in posts(running)

    jumping.run(main())


@pytest.mark.parametrize("name", ENDING)
def test_attempts_have_the_error_when_the_last_entry_ends_in_one_that_walks_on(name, tmp_path):
    """Where a listed error is the chain's last word, the client gets a 503 with attempts."""

    async def main() -> None:
        aliases = chain(f"fallback_on: [{name}]", "openai/sim.status.code-500", ENDING[name])
        async with gateway(aliases, tmp_path) as running:
            answer = await chat(running.port, "mana/one", **asking(name))
            assert (answer.status, answer.error["code"]) == (503, "no_healthy_provider")
            assert [row["reason"] for row in answer.error["attempts"]] == ["ProviderServerError", name]

    jumping.run(main())


def test_alias_serves_only_its_own_kind_when_asked_on_both_routes(tmp_path):
    """`kind: embeddings` answers embeddings, and chat with a 400 that says what to use; and the other way round."""
    aliases = (
        "aliases:\n  mana/chat: {chain: [openai/sim.ok]}\n"
        "  mana/embed: {kind: embeddings, chain: [ollama/nomic-embed-text]}\ndefault: mana/chat\n"
    )

    async def main() -> None:
        async with gateway(aliases, tmp_path) as running:
            body = b'{"model": "mana/%b", "input": "a"}'
            good = await call(running.port, "POST /v1/embeddings", body % b"embed")
            bad = await call(running.port, "POST /v1/embeddings", body % b"chat")
            refused = await chat(running.port, "mana/embed")
            assert (good.status, good.headers["x-mana-llm-resolved"]) == (200, "ollama/nomic-embed-text")
            for answer in (bad, refused):
                assert (answer.status, answer.error["code"]) == (400, "wrong_alias_kind")

    jumping.run(main())
