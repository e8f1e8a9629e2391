"""docs/behaviour.md table: what happened, whether the walk goes on, what health learns, what the client sees.

All of it in virtual time (tests.jumping), so with the limits that the gateway has by default.
"""

import asyncio

import pytest

from tests import jumping
from tests.caller import chat, counted
from tests.puppet import STREAM_HEAD, puppet, saying
from tests.puppet import answer as answering
from tests.routing.walk_cases import EVERY, FALLBACK, aliases_of, settings_of
from tests.routing.walk_seen import assert_learnt, learnt, softly, told
from tests.world import gateway


@pytest.mark.parametrize(("case", "stream"), EVERY)
def test_walk_follows_the_table_when_a_chain_has_another_entry(case, stream, tmp_path):
    """The next entry answers if the table says so; else the client sees why the first one ended the walk. It takes as
    long as the limit that ran out, and no time at all where none did.
    """
    soft = softly(case, stream=stream)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with settings_of(case) as settings:
            async with gateway(aliases_of(case.model, FALLBACK), tmp_path, **settings) as running:
                began_s = loop.time()
                answer = await chat(running.port, "mana/two", stream=stream, **case.fields)
                assert loop.time() - began_s == pytest.approx(case.after_s, abs=0.001)
                if not case.walks:
                    error = told(answer, case.direct[0], soft=soft)
                    assert error["code"] == case.direct[1]
                    assert "attempts" not in error
                    assert all(FALLBACK.partition("/")[2] != entry.model for entry in running.simulator.log)
                else:
                    assert answer.status == 200
                    assert answer.headers.get("x-mana-llm-resolved") == (None if soft else FALLBACK)
                    assert answer.headers.get("x-mana-llm-attempts") == (None if soft else "2")
                    assert answer.text.startswith("[simulated]")
                    step = {"from_model": case.model, "to_model": FALLBACK, "reason": case.reason}
                    assert counted(running.application.metrics.text(), "mana_llm_fallback_total", **step) == 1
                await assert_learnt(running, case)

    jumping.run(main())


@pytest.mark.parametrize(("case", "stream"), EVERY)
def test_client_sees_what_the_table_says_when_the_model_is_direct(case, stream):
    """A direct model is a chain of one: the same table, and the client learns reason and attempts."""
    soft = softly(case, stream=stream)

    async def main() -> None:
        with settings_of(case) as settings:
            async with gateway(**settings) as running:
                answer = await chat(running.port, case.model, stream=stream, **case.fields)
                error = told(answer, case.direct[0], soft=soft)
                assert error["code"] == case.direct[1]
                assert set(error) >= {"message", "type", "param", "code"}
                if case.direct[0] == 503:
                    (attempt,) = error["attempts"]
                    assert (attempt["model"], attempt["reason"]) == (case.model, case.reason)
                    assert attempt["detail"]
                    assert soft or answer.headers["x-should-retry"] == "false"
                if isinstance(case.health, float):
                    assert answer.headers["retry-after"] == f"{case.health:.0f}"
                await assert_learnt(running, case)
                provider = case.model.partition("/")[0]
                text = running.application.metrics.text()
                # What cannot be asked for was not asked: no call is counted.
                asked = int(case.reason != "ProviderCapabilityError")
                assert counted(text, "mana_llm_llm_requests_total", provider=provider, status=case.reason) == asked
                assert counted(text, "mana_llm_llm_requests_total") == asked

    jumping.run(main())


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
            assert await learnt(running, "google") == "none"

    jumping.run(main())


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
            assert await learnt(running, "openai") == "none"
            text = running.application.metrics.text()
            assert counted(text, "mana_llm_llm_requests_total", status="LookupError") == 1
            assert counted(text, "mana_llm_llm_requests_total") == 1

    jumping.run(main())
