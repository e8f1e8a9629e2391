"""What happens after content, and which entries are skipped.

What happens before content stands in walk_cases.py, how a walk ends otherwise in test_walk_ends.py; docs/faults.md is
made of these tables. All of it in virtual time.
"""

from typing import Any, NamedTuple

import pytest

from mana_llm.settings import Secret
from tests import jumping
from tests.caller import begin_chat, chat, counted
from tests.routing.walk_cases import CASES, settings_of
from tests.routing.walk_seen import softly, told
from tests.world import World, gateway

LAST = "groq/sim.ok"
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


class After(NamedTuple):
    """One thing that happens after content. `error` is the event's type, "" where the stream ends with `finish`;
    `after_s` is how long the whole answer takes.
    """

    name: str
    model: str
    error: str = ""
    finish: str = ""
    settings: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it
    after_s: float = 0.0


PROTOCOL, SERVER, TIMEOUT = "provider_protocol", "provider_server", "provider_timeout"
AFTER = [
    After("end of the connection", "openai/sim.cut.after-3", PROTOCOL),
    After("reset", "openai/sim.cut.after-3.how-rst.pace-0.01", PROTOCOL, after_s=0.02),
    After("half a line", "openai/sim.cut.after-3.how-json", PROTOCOL),
    After("clean end without an end marker", "openai/sim.cut.after-3.how-clean", PROTOCOL),
    After("end of ollama's connection", "ollama/sim.cut.after-3", PROTOCOL),
    After("end of gemini's connection", "google/sim.cut.after-3", PROTOCOL),
    After("a line that is no JSON", "openai/sim.malformed.after-3", PROTOCOL),
    After("a line from ollama that is no JSON", "ollama/sim.malformed.after-3", PROTOCOL),
    After("a line from gemini that is no JSON", "google/sim.malformed.after-3", PROTOCOL),
    After("an error in the stream", "openai/sim.error.after-3", SERVER),
    After("an error event", "openrouter/sim.error.after-3.how-event", SERVER),
    After("an error and [DONE]", "openrouter/sim.error.after-3", SERVER),
    After("an error in a line of ollama", "ollama/sim.error.after-3", SERVER),
    After("an error in gemini's stream", "google/sim.error.after-3", SERVER),
    After("silence", "openai/sim.hang.how-chunks.after-3", TIMEOUT, after_s=60.0),
    After("silence of ollama", "ollama/sim.hang.how-chunks.after-3", TIMEOUT, after_s=60.0),
    After("silence of gemini", "google/sim.hang.how-chunks.after-3", TIMEOUT, after_s=60.0),
    After(
        "the end of the walk's time",
        "openai/sim.ok.chunks-700.pace-1",
        TIMEOUT,
        settings={"total_s": 600.0},
        after_s=600.0,
    ),
    After("the content filter", "openai/sim.filter.after-3", finish="content_filter"),
    After("gemini's content filter", "google/sim.filter.after-3", finish="content_filter"),
    After("the token ceiling", "openai/sim.ok.finish-length", finish="length"),
    After("ollama's token ceiling", "ollama/sim.ok.finish-length", finish="length"),
    After("gemini's token ceiling", "google/sim.ok.finish-length", finish="length"),
    After("an end without a finish, but with [DONE]", "openai/sim.no-finish"),
    After("an end with a finish, but without [DONE]", "openai/sim.no-done", finish="stop"),
]


class Skip(NamedTuple):
    """One reason for which an entry is not asked; `policy` is the alias's."""

    reason: str
    what: str
    model: str
    policy: str = ""
    settings: dict[str, Any] = {}  # noqa: RUF012
    fields: dict[str, Any] = {}  # noqa: RUF012


QUEUED_S = 2.0
"""How long a request waits for a place, by default, where somebody else could be asked."""
SKIPS = [
    Skip("unconfigured", "the provider has no key here", "mistral/any", settings={"mistral_api_key": Secret()}),
    Skip("cache-unhealthy", "the provider rests after failures", "openai/any"),
    Skip("saturated", "all of the provider's places are taken", "openai/any",
         settings={"max_concurrent": ("openai=1",)}),
    Skip("capability", "the model is not known to do what is needed, and the alias says `on_incapable: skip`",
         "groq/openai/gpt-oss-120b", "on_incapable: skip, ",
         fields={"messages": [{"role": "user", "content": [IMAGE]}]}),
    Skip("retry-budget", "it has failed lately, and enough retries are under way", "openai/any"),
]  # fmt: skip


def aliases_of(*chain: str, policy: str = "") -> str:
    listed = ", ".join(f"'{entry}'" for entry in chain)
    return f"aliases: {{mana/two: {{{policy}chain: [{listed}]}}}}\ndefault: mana/two\n"


def posts(running: World) -> list[str]:
    return [entry.model for entry in running.simulator.log if entry.method == "POST" and entry.path != "/api/show"]


@pytest.mark.parametrize("case", AFTER, ids=lambda case: case.name)
def test_provider_stays_committed_when_something_happens_after_content(case, tmp_path):
    """After content nobody else is asked: a failure is one error event and [DONE] and the provider's health hears of
    it; a block or a ceiling is a finish and no failure; nothing is invented.
    """

    async def main() -> None:
        async with gateway(aliases_of(case.model, LAST), tmp_path, health_failures=1, **case.settings) as running:
            began_s = running.loop.time()
            answer = await chat(running.port, "mana/two", stream=True)
            assert running.loop.time() - began_s == pytest.approx(case.after_s, abs=0.001)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, case.model)
            assert (answer.events[-1], answer.complete) == ("[DONE]", True)
            assert answer.text.startswith("[")
            errors = [event["error"]["type"] for event in answer.events[:-1] if "error" in event]
            assert errors == ([case.error] if case.error else [])
            choices = [choice for event in answer.events[:-1] for choice in event.get("choices", ())]
            assert [word for choice in choices if (word := choice["finish_reason"])] == [case.finish][
                : bool(case.finish)
            ]
            assert "sim.ok" not in posts(running)
            provider = case.model.partition("/")[0]
            # The walk's own time says nothing about a provider that was flowing.
            harmed = [provider] if case.error and "total_s" not in case.settings else []
            assert list(running.application.health.problems()) == harmed

    jumping.run(main())


@BOTH
@pytest.mark.parametrize(("model", "finish"), [("openai/sim.length", "length"), ("openai/sim.empty", "stop")])
def test_answer_passes_as_it_came_when_a_compatible_provider_ended_it_cleanly_without_content(
    model, finish, stream, tmp_path
):
    """What ends cleanly is an answer, though it is empty: nobody else is asked, and nothing has failed."""

    async def main() -> None:
        async with gateway(aliases_of(model, LAST), tmp_path) as running:
            answer = await chat(running.port, "mana/two", stream=stream)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, model)
            assert not answer.text
            choices = [choice for event in answer.events[:-1] for choice in event["choices"]] if stream else None
            finishes = [choice["finish_reason"] for choice in choices or answer.json["choices"]]
            assert [word for word in finishes if word] == [finish]
            assert posts(running) == [model.partition("/")[2]]
            assert not any(breaker.failures for breaker in running.application.health._breakers.values())

    jumping.run(main())


async def skipping(running: World, skip: Skip) -> None:
    """Bring it about that the first entry is skipped."""
    if skip.reason == "cache-unhealthy":
        running.simulator.script("sim.status.code-429.retry-60", model="any", times=1)
        assert (await chat(running.port, skip.model)).status == 429
    elif skip.reason == "saturated":
        running.simulator.script("sim.hang", model="any", times=1)
        held = await begin_chat(running.port, skip.model)
        await running.simulator.wait_until(lambda: bool(posts(running)), 5.0)
        running.held = held  # type: ignore[attr-defined]
    running.simulator.log.clear()


# What the budget for retries holds back is tried in tests/gateway/test_retry_budget.py: it takes many requests.
ALONE = [skip for skip in SKIPS if skip.reason != "retry-budget"]


@BOTH
@pytest.mark.parametrize("skip", ALONE, ids=lambda skip: skip.reason)
def test_next_entry_answers_when_the_first_is_skipped(skip, stream, tmp_path):
    """An entry that is skipped is not asked and counts as no attempt; the step is counted under its reason."""

    async def main() -> None:
        aliases = aliases_of(skip.model, LAST, policy=skip.policy)
        async with gateway(aliases, tmp_path, drain_s=0.1, **skip.settings) as running:
            await skipping(running, skip)
            failures = running.application.health._breakers[skip.model.partition("/")[0]].failures
            began_s = running.loop.time()
            answer = await chat(running.port, "mana/two", stream=stream, **skip.fields)
            waited_s = QUEUED_S if skip.reason == "saturated" else 0.0
            assert running.loop.time() - began_s == pytest.approx(waited_s, abs=0.001)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, LAST)
            assert answer.headers["x-mana-llm-attempts"] == "1"
            assert posts(running) == ["sim.ok"]
            step = {"from_model": skip.model, "to_model": LAST, "reason": skip.reason}
            assert counted(running.application.metrics.text(), "mana_llm_fallback_total", **step) == 1
            assert running.application.health._breakers[skip.model.partition("/")[0]].failures == failures

    jumping.run(main())


@BOTH
@pytest.mark.parametrize("skip", ALONE, ids=lambda skip: skip.reason)
def test_attempts_have_the_word_when_the_only_entry_is_skipped(skip, stream, tmp_path):
    """With nobody else to ask: a 503 whose attempts have the word; where places were taken, coming again is worth
    it and the client is told when.
    """

    async def main() -> None:
        # Less than the soft commit, so that a stream's end has a status, too.
        aliases = aliases_of(skip.model, policy=f"{skip.policy}total_s: 10, ")
        async with gateway(aliases, tmp_path, drain_s=0.1, **skip.settings) as running:
            await skipping(running, skip)
            answer = await chat(running.port, "mana/two", stream=stream, **skip.fields)
            (row,) = answer.error["attempts"]
            assert (row["model"], row["reason"]) == (skip.model, skip.reason)
            assert row["detail"]
            assert answer.headers["x-mana-llm-attempts"] == "0"
            full = skip.reason == "saturated"
            # A walk that waited for a place until its time was over ends in that.
            assert (answer.status, answer.error["code"]) in (
                [(504, "deadline_exceeded")] if full else [(503, "no_healthy_provider")]
            )
            if skip.reason == "cache-unhealthy":
                assert 55 <= int(answer.headers["retry-after"]) <= 63

    jumping.run(main())


@pytest.mark.parametrize(
    ("case", "stream"),
    [
        pytest.param(case, stream, id=f"{case.name}-{'streamed' if stream else 'plain'}")
        for case in CASES
        if case.walks
        for stream in case.streams
    ],
)
def test_chain_ends_in_503_when_its_only_entry_fails_however_it_does(case, stream, tmp_path):
    """An alias never answers 429: a rate limit and an empty account are a 503 with attempts, with the same wish."""
    soft = softly(case, stream=stream)

    async def main() -> None:
        with settings_of(case) as settings:
            async with gateway(aliases_of(case.model), tmp_path, **settings) as running:
                answer = await chat(running.port, "mana/two", stream=stream, **case.fields)
                error = told(answer, 503, soft=soft)
                assert error["code"] == "no_healthy_provider"
                assert [row["reason"] for row in error["attempts"]] == [case.reason]
                assert soft or answer.headers["x-should-retry"] == "false"
                wish = f"{case.health:.0f}" if isinstance(case.health, float) else None
                assert answer.headers.get("retry-after") == wish

    jumping.run(main())
