"""What every client's tests share: the three kinds of upstream, and a gateway before a simulator that plays them."""

from collections.abc import Iterator

import msgspec
import pytest

from mana_llm.simulator import Script
from tests.world import World

CITY = "simulated"
"""The city that a simulated model asks the weather of; see `simulator.texts.instance`."""
WEATHER = "rain in Oslo"


class Upstream(msgspec.Struct, frozen=True):
    """One kind of upstream: models of it that chat and embed, and the path that chats arrive at."""

    name: str
    chat: str
    embed: str
    path: str


UPSTREAMS = (
    Upstream("openai", "openai/gpt-4o-mini", "openai/text-embedding-3-small", "/chat/completions"),
    Upstream("ollama", "ollama/qwen3:8b", "ollama/nomic-embed-text", "/api/chat"),
    Upstream("google", "google/gemini-3.5-flash-lite", "google/gemini-embedding-001", "enerateContent"),
)
each_upstream = pytest.mark.parametrize("upstream", UPSTREAMS, ids=lambda upstream: upstream.name)


def calls_tools(running: World, count: int = 1) -> None:
    """Let every model call so many of the tools that it is offered, and speak once they have answered."""
    running.run(lambda: running.simulator.script(Script(tools=count)))


def says(running: World, text: str) -> None:
    """Let every model say this, in a few pieces."""
    running.run(lambda: running.simulator.script(Script(text=text, chunks=4)))


def asked(running: World, upstream: Upstream) -> Iterator[dict]:
    """The bodies of the chats that the upstream was really sent."""
    return (entry.body for entry in running.simulator.log if upstream.path in entry.path)


def missing(client: str) -> str:
    """Why a test is skipped."""
    return f"{client} is not installed here: `make test-clients` builds an environment for it"
