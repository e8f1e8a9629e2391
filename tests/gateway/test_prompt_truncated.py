"""A prompt that its provider cut: said in a header where it is known in time, and counted in any case."""

import asyncio

import pytest
import uvloop

from tests.caller import HELLO, body_for, call, chat, counted
from tests.world import gateway

NAME = "mana_llm_prompts_truncated_total"
HEADER = "x-mana-llm-prompt-truncated"
ASKED_FIRST = {"/api/show", "/api/ps"}
# The simulated server cuts prompts as the real one does, to a context of 4,096 tokens.
LONG = [{"role": "user", "content": "Some words of a prompt. " * 2_000}]
SHORT = [{"role": "user", "content": "Some words of a prompt. " * 500}]


async def asked(running, messages, *, stream, model="gemma3:4b"):
    """The answer, once its request is counted."""
    before = counted(running.application.metrics.text(), "mana_llm_requests_total")
    answer = await chat(running.port, f"ollama/{model}", messages=messages, stream=stream)
    async with asyncio.timeout(5):
        while counted(running.application.metrics.text(), "mana_llm_requests_total") == before:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return answer


@pytest.mark.parametrize(
    ("model", "stream", "told"),
    [
        # It is loaded, with less context than it could have: so many characters cannot fit.
        ("gemma3:4b", False, "true"),
        ("gemma3:4b", True, "true"),
        # Nobody knows what it will be loaded with.
        ("gemma3:12b", False, "true"),
        ("gemma3:12b", True, None),
    ],
)
def test_truncation_is_told_when_the_prompt_was_cut(model, stream, told):
    """A plain answer has the header, a stream if the cut was certain before its head left; the metric counts all."""

    async def main():
        async with gateway() as running:
            answer = await asked(running, LONG, stream=stream, model=model)
            assert answer.status == 200
            assert answer.headers.get(HEADER) == told
            text = running.application.metrics.text()
            assert counted(text, NAME, provider="ollama") == 1
            assert counted(text, NAME) == 1

    uvloop.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_told_when_the_prompt_was_whole(stream):
    """Neither a header nor a count."""

    async def main():
        async with gateway() as running:
            for messages in (SHORT, HELLO):
                answer = await asked(running, messages, stream=stream)
                assert answer.status == 200
                assert HEADER not in answer.headers
            assert counted(running.application.metrics.text(), NAME) == 0

    uvloop.run(main())


def test_loaded_context_is_asked_once_when_prompts_are_long():
    """A long prompt has the contexts asked, the next one believes them, and a short one never asks."""

    async def main():
        async with gateway() as running:
            log = running.simulator.log
            await asked(running, HELLO, stream=False)
            assert not ASKED_FIRST & {entry.path for entry in log}
            for _ in range(2):
                await asked(running, SHORT, stream=True)
            assert sorted(entry.path for entry in log if entry.path in ASKED_FIRST) == ["/api/ps", "/api/show"]

    uvloop.run(main())


def test_browser_may_read_the_header_when_pages_may_call():
    """The header is among those that CORS exposes."""

    async def main():
        async with gateway(cors_origins=("https://page.test",)) as running:
            headers = {"Origin": "https://page.test"}
            answer = await call(running.port, "POST /v1/chat/completions", body_for("openai/gpt-4o"), headers)
            assert HEADER in answer.headers["access-control-expose-headers"]

    uvloop.run(main())
