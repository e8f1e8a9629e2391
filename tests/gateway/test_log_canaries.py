"""Prompts, keys and what a provider echoes of them: never in the log of a real process, at no level."""

import asyncio

import pytest
import uvloop

from mana_llm.simulator.script import Fault, Script
from tests.caller import begin, body_for, call
from tests.process import served

PROMPT, KEY, UPSTREAM_KEY, ECHO, HEADER = (f"canary-{word}-7be1" for word in ("prompt", "key", "cloud", "echo", "head"))
MESSAGES = [{"role": "user", "content": f"{PROMPT} tell me"}]
MODELS = (
    "openai/gpt-5-mini",
    "ollama/gemma3:4b",
    "google/gemini-3.5-flash-lite",
    "openai/echo-status",
    "openai/echo-error",
    "ollama/echo-status",
    "google/echo-status",
    "openai/sim.cut.after-2",
    "openai/sim.html",
    "mana/none",
    "mana/fast-text",
)


async def everything_asked(running) -> list[int]:
    """Every kind of success and failure once, plain and streamed; gives the statuses."""
    simulator = running.simulator
    echo = {"reason": "bad", "message": f"{ECHO}: {PROMPT}"}
    simulator.script(Script(fault=Fault(kind="status", code=400, **echo)), model="echo-status")
    simulator.script(Script(fault=Fault(kind="error", after=1, **echo)), model="echo-error")
    headers = {"Authorization": f"Bearer {KEY}", "X-Custom": HEADER}
    statuses = []
    for model in MODELS:
        for stream in (False, True):
            body = body_for(model, stream=stream, messages=MESSAGES, metadata={"note": PROMPT})
            answer = await call(running.port, "POST /v1/chat/completions", body, headers)
            statuses.append(answer.status)
    bad = (b'{"model": "' + PROMPT.encode(), f'{{"messages": "{PROMPT}"}}'.encode(), PROMPT.encode() + b"\xff")
    tries = [(body, headers) for body in bad]
    tries.append((body_for("m"), {"Authorization": f"Bearer {KEY}x"}))
    for body, given in tries:
        answer = await call(running.port, "POST /v1/chat/completions", body, given)
        statuses.append(answer.status)
    leaving = await begin(
        running.port, "POST /v1/chat/completions", body_for("ollama/sim.hang", messages=MESSAGES), headers
    )
    await simulator.wait_until(lambda: any("sim.hang" in str(entry.body) for entry in simulator.log))
    leaving.close()
    return statuses


@pytest.mark.parametrize("level", ["info", "debug"])
def test_log_has_no_prompt_and_no_key_when_everything_happens(level, tmp_path):
    """Successes, failures, breaks and a provider that echoes the prompt leave no word of it, nor of any key."""

    async def main() -> bytes:
        settings = {"LOG_LEVEL": level, "GPU_API_KEY": KEY, "OPENAI_API_KEY": UPSTREAM_KEY}
        async with served(tmp_path, asyncio.subprocess.PIPE, **settings) as running:
            statuses = await everything_asked(running)
            assert {200, 400, 401, 404} <= set(statuses)
            running.process.terminate()
            log = await running.process.stderr.read()
            assert log.count(b'"logger":"mana_llm.access"') == len(statuses) + 1
            return log

    log = uvloop.run(main())
    for canary in (PROMPT, KEY, UPSTREAM_KEY, ECHO, HEADER):
        assert canary.encode() not in log, canary
