"""docs/behaviour.md table: what happened, whether the walk goes on, what health learns, what the client sees."""

import socket
from typing import Any, NamedTuple

import pytest
import uvloop

from tests.caller import chat, counted
from tests.puppet import STREAM_HEAD, puppet, saying
from tests.puppet import answer as answering
from tests.world import World, gateway

BEFORE = 0.5
"""Seconds to the first token where a case waits for it."""


class Case(NamedTuple):
    """One thing that happens. `health` is failure, none, parked, or the seconds of a Retry-After.

    `direct` is what a direct model's client sees: status and code.
    """

    name: str
    model: str
    walks: bool
    reason: str
    health: Any = "failure"
    direct: tuple[int, str | None] = (503, "no_healthy_provider")
    fields: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it
    settings: dict[str, Any] = {}  # noqa: RUF012
    streams: tuple[bool, ...] = (False, True)


SERVER, PROTOCOL, TIMEOUT = "ProviderServerError", "ProviderProtocolError", "ProviderTimeoutError"
REQUEST = "ProviderRequestError"
CASES = [
    Case("nobody listens", "together/any", True, "ProviderConnectError"),
    Case("reset on connect", "openai/sim.refuse", True, PROTOCOL),
    Case("no answer", "openai/sim.hang", True, TIMEOUT, settings={"ttft_s": BEFORE}),
    Case("head and silence", "openai/sim.hang.how-body", True, TIMEOUT, settings={"ttft_s": BEFORE}),
    Case("role and silence", "openai/sim.hang.how-role", True, TIMEOUT, settings={"ttft_s": BEFORE}, streams=(True,)),
    Case("silence in a body", "openai/sim.hang.how-body", True, TIMEOUT, settings={"idle_s": BEFORE}, streams=(False,)),
    Case("end before content", "openai/sim.cut.after-0", True, PROTOCOL),
    Case("reset before content", "openai/sim.cut.after-0.how-rst", True, PROTOCOL),
    Case("half a line", "openai/sim.cut.after-0.how-json", True, PROTOCOL),
    Case("ollama ends before content", "ollama/sim.cut.after-0", True, PROTOCOL),
    Case("gemini ends before content", "google/sim.cut.after-0", True, PROTOCOL),
    Case("half a whole answer", "openai/sim.cut.after-1", True, PROTOCOL, streams=(False,)),
    Case("longer than it is", "openai/sim.overlong", True, PROTOCOL, streams=(False,)),
    *(Case(f"status {code}", f"openai/sim.status.code-{code}", True, SERVER) for code in (500, 502, 503, 504, 529)),
    Case("gemini 500", "google/sim.status.code-500", True, SERVER),
    Case("ollama 500", "ollama/sim.status.code-500", True, SERVER),
    Case("429 with a time", "openai/sim.status.code-429.retry-7", True, "ProviderRateLimitError", 7.0,
         (429, "rate_limit_exceeded")),
    Case("gemini 429 with a time", "google/sim.status.code-429.retry-7", True, "ProviderRateLimitError", 7.0,
         (429, "rate_limit_exceeded")),
    Case("429", "openai/sim.status.code-429", True, "ProviderRateLimitError", "failure", (429, "rate_limit_exceeded")),
    Case("402", "openrouter/sim.status.code-402", True, "ProviderQuotaError", "parked", (429, "insufficient_quota")),
    *(Case(f"out of quota with {code}", f"openai/sim.status.code-{code}.reason-quota", True, "ProviderQuotaError",
           "parked", (429, "insufficient_quota")) for code in (400, 403, 429)),
    *(Case(f"status {code}", f"openai/sim.status.code-{code}", True, SERVER) for code in (408, 409, 425, 498, 499)),
    *(Case(f"redirect {code}", f"openai/sim.redirect.code-{code}", True, SERVER) for code in (301, 302, 303, 307, 308)),
    Case("tool_use_failed", "groq/sim.status.code-400.reason-tool_use_failed", True, SERVER, "none"),
    Case("a page of HTML", "openai/sim.html", True, PROTOCOL),
    Case("another type", "openai/sim.type.how-text-plain", True, PROTOCOL),
    Case("another type from ollama", "ollama/sim.type.how-text-plain", True, PROTOCOL),
    Case("another type from gemini", "google/sim.type.how-text-plain", True, PROTOCOL),
    Case("a line that is no JSON", "openai/sim.malformed.after-0", True, PROTOCOL),
    Case("a line from ollama that is no JSON", "ollama/sim.malformed.after-0", True, PROTOCOL),
    Case("a line from gemini that is no JSON", "google/sim.malformed.after-0", True, PROTOCOL),
    Case("an error in the stream", "openai/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("an error event", "groq/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("an error and [DONE]", "openrouter/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("an error in a line", "ollama/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("an error in gemini's stream", "google/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("choices are null", "openai/sim.null", True, PROTOCOL, streams=(False,)),
    Case("it cannot speak", "ollama/any", False, "ProviderCapabilityError", "none", (400, "provider_capability"),
         fields={"modalities": ["audio"]}),
    *(Case(f"our key gets {code}", f"{provider}/sim.status.code-{code}", False, "ProviderAuthError", "none",
           (502, "provider_auth")) for provider in ("openai", "google", "ollama") for code in (401, 403)),
    Case("a filter leaves nothing", "openai/sim.filter", False, "ProviderBlockedError", "none",
         (422, "content_filter")),
    Case("gemini blocks the prompt", "google/sim.filter", False, "ProviderBlockedError", "none",
         (422, "content_filter")),
    Case("gemini blocks the answer", "google/sim.filter.how-candidate", False, "ProviderBlockedError", "none",
         (422, "content_filter")),
    Case("gemini's ceiling", "google/sim.length", False, "ProviderTruncatedError", "none", (502, "provider_truncated")),
    Case("ollama's ceiling", "ollama/sim.length", False, "ProviderTruncatedError", "none", (502, "provider_truncated")),
    Case("unknown model", "openai/sim.status.code-404", False, REQUEST, "none", (404, "model_not_found")),
    Case("too long", "openai/sim.status.code-400.reason-context", False, REQUEST, "none",
         (400, "context_length_exceeded")),
    Case("too long for ollama", "ollama/sim.status.code-400.reason-context", False, REQUEST, "none",
         (400, "context_length_exceeded")),
    Case("too long for gemini", "google/sim.status.code-400.reason-context", False, REQUEST, "none",
         (400, "context_length_exceeded")),
    *(Case(f"status {code}", f"openai/sim.status.code-{code}.reason-odd", False, REQUEST, "none", (code, "odd"))
      for code in (400, 404, 405, 406, 410, 413, 415, 418, 422, 431, 451)),
]  # fmt: skip
EVERY = [
    pytest.param(case, stream, id=f"{case.name}-{'streamed' if stream else 'plain'}")
    for case in CASES
    for stream in case.streams
]
FALLBACK = "groq/sim.ok"


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def settings_of(case: Case) -> dict[str, Any]:
    return {"together_base_url": f"http://127.0.0.1:{closed_port()}/v1", **case.settings}


def learnt(running: World, provider: str) -> Any:
    """What the provider's health has learnt, in the table's words."""
    breaker = running.application.health._breakers[provider]
    if not breaker.failures:
        assert not breaker.until_s
        return "none"
    assert breaker.failures == 1
    if not breaker.until_s:
        return "failure"
    return breaker.until_s - running.application.clock.now_s()


def assert_learnt(running: World, case: Case) -> None:
    """A Retry-After is kept to within 5 %; parked is ten minutes."""
    found = learnt(running, case.model.partition("/")[0])
    if case.health in ("failure", "none"):
        assert found == case.health
    else:
        wanted_s = 600.0 if case.health == "parked" else case.health
        assert wanted_s - 5.0 < found <= wanted_s * 1.05


@pytest.mark.parametrize(("case", "stream"), EVERY)
def test_walk_follows_the_table_when_a_chain_has_another_entry(case, stream, tmp_path):
    """The next entry answers if the table says so; else the client sees why the first one ended the walk."""
    aliases = f"aliases: {{mana/two: {{chain: ['{case.model}', '{FALLBACK}']}}}}\ndefault: mana/two\n"

    async def main() -> None:
        async with gateway(aliases, tmp_path, **settings_of(case)) as running:
            answer = await chat(running.port, "mana/two", stream=stream, **case.fields)
            # groq may be the case's own provider; its answer then has said that it is healthy.
            if not case.walks:
                assert (answer.status, answer.error["code"]) == case.direct
                assert "attempts" not in answer.error
                assert all(FALLBACK.partition("/")[2] != entry.model for entry in running.simulator.log)
            else:
                assert answer.status == 200
                assert answer.headers["x-mana-llm-resolved"] == FALLBACK
                assert answer.headers["x-mana-llm-attempts"] == "2"
                assert answer.text.startswith("[simulated]")
                step = {"from_model": case.model, "to_model": FALLBACK, "reason": case.reason}
                assert counted(running.application.metrics.text(), "mana_llm_fallback_total", **step) == 1
            if not case.model.startswith("groq/"):
                assert_learnt(running, case)

    uvloop.run(main())


@pytest.mark.parametrize(("case", "stream"), EVERY)
def test_client_sees_what_the_table_says_when_the_model_is_direct(case, stream):
    """A direct model is a chain of one: the same table, and the client learns reason and attempts."""

    async def main() -> None:
        async with gateway(**settings_of(case)) as running:
            answer = await chat(running.port, case.model, stream=stream, **case.fields)
            assert (answer.status, answer.error["code"]) == case.direct
            assert set(answer.error) >= {"message", "type", "param", "code"}
            if answer.status == 503:
                (attempt,) = answer.error["attempts"]
                assert (attempt["model"], attempt["reason"]) == (case.model, case.reason)
                assert attempt["detail"]
                assert answer.headers["x-should-retry"] == "false"
            if isinstance(case.health, float):
                assert answer.headers["retry-after"] == f"{case.health:.0f}"
            assert_learnt(running, case)
            provider = case.model.partition("/")[0]
            text = running.application.metrics.text()
            # What cannot be asked for was not asked: no call is counted.
            asked = int(case.reason != "ProviderCapabilityError")
            assert counted(text, "mana_llm_llm_requests_total", provider=provider, status=case.reason) == asked
            assert counted(text, "mana_llm_llm_requests_total") == asked

    uvloop.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_next_entry_answers_when_gemini_wrote_a_malformed_call(stream, tmp_path):
    """MALFORMED_FUNCTION_CALL walks on and teaches health nothing; a direct model's client gets a 503."""
    aliases = "aliases: {mana/two: {chain: [google/any, groq/sim.ok]}}\ndefault: mana/two\n"
    body = b'{"candidates":[{"content":{},"finishReason":"MALFORMED_FUNCTION_CALL","index":0}]}'
    reply = STREAM_HEAD + b"data: %b\r\n\r\n" % body if stream else answering(body)

    async def main() -> None:
        async with (
            puppet(saying([reply])) as url,
            gateway(aliases, tmp_path, google_base_url=url.removesuffix("/v1")) as running,
        ):
            answer = await chat(running.port, "mana/two", stream=stream)
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, "groq/sim.ok")
            direct = await chat(running.port, "google/any", stream=stream)
            assert direct.status == 503
            assert learnt(running, "google") == "none"

    uvloop.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_answer_is_a_500_when_our_own_code_fails(stream, monkeypatch, tmp_path):
    """A bug is a 500 that says nothing, ends the walk, and teaches health nothing."""
    aliases = "aliases: {mana/two: {chain: [openai/any, groq/any]}}\ndefault: mana/two\n"

    def bug(*_: object) -> None:
        raise LookupError("a secret of ours")

    monkeypatch.setattr("mana_llm.providers.compatible.Compatible.decode_chat", bug)
    monkeypatch.setattr("mana_llm.providers.compatible_stream.CompatibleStream.feed", bug)

    async def main() -> None:
        async with gateway(aliases, tmp_path) as running:
            answer = await chat(running.port, "mana/two", stream=stream)
            assert (answer.status, answer.error["code"]) == (500, "internal_error")
            assert b"secret" not in answer.body
            assert learnt(running, "openai") == "none"
            text = running.application.metrics.text()
            assert counted(text, "mana_llm_llm_requests_total", status="LookupError") == 1
            assert counted(text, "mana_llm_llm_requests_total") == 1

    uvloop.run(main())
