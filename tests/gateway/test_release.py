"""Whatever fails between the upstream's answer and ours, no upstream connection is left behind."""

import asyncio
import logging

import pytest
import uvloop

from mana_llm.dialects.openai import OpenAI
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.compatible_stream import CompatibleStream
from mana_llm.routing.answer import LiveStream
from mana_llm.upstream.response import Response
from tests.caller import begin_chat
from tests.world import World, gateway

TIMES = 1_000
AT_A_TIME = 20
# An answer that goes on for ever: only a release ends it.
ENDLESS = "openai/sim.hang.how-chunks.after-2"


class Bug(Exception):  # noqa: N818 - it is none of the house's errors
    """What no code expects."""


def raising(*_: object, **__: object) -> None:
    raise Bug


BUGS = {
    "in the decoder": (CompatibleStream, "feed", ENDLESS, True),
    "in the decoder's start": (Compatible, "open_stream", ENDLESS, True),
    "in the encoder's start": (OpenAI, "open_stream", ENDLESS, True),
    "in the encoder": ("mana_llm.dialects.openai_stream.ChatStream", "encode", ENDLESS, True),
    "in reading the body": (Response, "read_all", "openai/sim.hang.how-body", False),
    "in decoding the body": (Compatible, "decode_chat", "openai/sim.ok", False),
    "in encoding the body": (OpenAI, "encode_chat", "openai/sim.ok", False),
    "in classifying an error": (Compatible, "decode_error", "openai/sim.status.code-500", False),
    "in classifying a page": (Compatible, "decode_error", "openai/sim.html", True),
}


def held(running: World) -> int:
    """Upstream connections that are in nobody's pool of idle ones."""
    pools = running.application.transport._pools.values()
    return sum(len(pool._all) - len(pool._idle) + pool._opening for pool in pools)


async def failures(model: str, times: int, *, stream: bool) -> None:
    """So many requests that fail inside the gateway: each is a 500, or says so in its stream; none is left."""
    async with gateway(drain_s=0.1) as running:
        for _ in range(times // AT_A_TIME):
            exchanges = [await begin_chat(running.port, model, stream=stream) for _ in range(AT_A_TIME)]
            async with asyncio.timeout(5):
                answers = [await exchange.whole() for exchange in exchanges]
            assert {(answer.status, answer.complete) for answer in answers} <= {(500, True), (200, True)}
            for exchange in exchanges:
                exchange.close()
        assert held(running) == 0
        await running.simulator.wait_until(lambda: all(entry.ended != "open" for entry in running.simulator.log))


def install(monkeypatch, bug: str) -> tuple[str, bool]:
    owner, name, model, stream = BUGS[bug]
    monkeypatch.setattr(
        f"{owner}.{name}" if isinstance(owner, str) else owner,
        *((raising,) if isinstance(owner, str) else (name, raising)),
    )
    # A thousand tracebacks say no more than one.
    monkeypatch.setattr(logging.getLogger("mana_llm"), "disabled", True)
    return model, stream


@pytest.mark.parametrize("bug", BUGS)
def test_connection_is_released_when_a_bug_strikes(bug, monkeypatch):
    """Wherever our own code fails, the client gets an end and the upstream connection is let go."""
    model, stream = install(monkeypatch, bug)
    uvloop.run(failures(model, 2 * AT_A_TIME, stream=stream))


def test_connections_are_released_when_a_thousand_bugs_strike(monkeypatch):
    """R7 (1,000 of 1,000): an exception between the upstream's head and ours strands no upstream connection."""
    model, stream = install(monkeypatch, "in the encoder's start")
    uvloop.run(failures(model, TIMES, stream=stream))


@pytest.mark.parametrize(
    ("owner", "bug"),
    [(LiveStream, "in the encoder's start"), (Response, "in the decoder"), (Response, "in reading the body")],
    ids=["LiveStream.close", "Response.close", "Response.close, plain"],
)
def test_check_fails_when_nothing_is_released(owner, bug, monkeypatch):
    """The checks above are worth something: a gateway that forgets to let go fails them."""
    model, stream = install(monkeypatch, bug)
    monkeypatch.setattr(owner, "close", lambda _: None)
    with pytest.raises((AssertionError, TimeoutError)):
        uvloop.run(failures(model, AT_A_TIME, stream=stream))
