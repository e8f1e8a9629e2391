"""The official openai client, unmodified, against the real server on a socket."""

import asyncio

import openai
import pytest

from tests.world import world

MODELS = ("openai/gpt-4o-mini", "openrouter/gpt-4o-mini", "ollama/gemma3:4b", "google/gemini-3.5-flash-lite")
HELLO = [{"role": "user", "content": "Hello"}]


def client(url: str, **options: object) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0, **options)


@pytest.mark.parametrize("model", MODELS)
def test_openai_client_gets_an_answer_when_plain(model: str) -> None:
    """The sync client gets text, finish, usage and the resolved model from every kind of provider."""
    with world() as running:
        raw = client(running.v1).chat.completions.with_raw_response.create(model=model, messages=HELLO)
        answer = raw.parse()
    assert raw.headers["x-mana-llm-resolved"] == answer.model == model
    assert answer.choices[0].message.content.startswith("[simulated]")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
