"""An upstream that dies in the middle, in every way and at every place."""

import pytest
import uvloop

from mana_llm.simulator import Fault, Script
from tests.caller import chat
from tests.puppet import STREAM_HEAD, puppet, saying
from tests.world import World, gateway

TEXT = "".join(f"<{number}>" for number in range(40))
PIECES = 40
PLACES = range(21)
# fin: the connection ends; json: half a line; clean: the body ends, without its end marker.
HOWS = ("fin", "rst", "json", "clean")
PROVIDERS = ("openai", "ollama", "google")
FALLBACK = "The other one answered."
ALIASES = (
    "aliases:\n"
    + "".join(f"  mana/{name}: {{chain: [{name}/dies, groq/lives]}}\n" for name in PROVIDERS)
    + "default: mana/openai\n"
)


async def broken(running: World, provider: str, how: str, after: int, *, stream: bool):
    """The client's answer when the first entry dies after so many pieces."""
    fault = Fault(kind="cut", after=after, how=how)
    running.simulator.script(Script(text=TEXT, chunks=PIECES, fault=fault), model="dies", times=1)
    running.simulator.script(Script(text=FALLBACK), model="lives", times=1)
    answer = await chat(running.port, f"mana/{provider}", stream=stream)
    running.simulator.clear_scripts()
    return answer


def first(count: int) -> str:
    """What so many pieces say."""
    return "".join(TEXT[len(TEXT) * part // PIECES : len(TEXT) * (part + 1) // PIECES] for part in range(count))


def assert_told(answer, how: str, after: int) -> None:
    """Either the fallback's whole answer, or the first pieces, an error, and [DONE]."""
    assert answer.status == 200
    assert answer.complete
    assert answer.events[-1] == "[DONE]"
    errors = [event for event in answer.events[:-1] if "error" in event]
    # A reset may destroy what lies unread in the gateway's socket: then less of the beginning was there.
    if after == 0 or (how == "rst" and not errors):
        assert (answer.text, errors) == (FALLBACK, [])
        assert answer.headers["x-mana-llm-resolved"] == "groq/lives"
        return
    assert answer.headers["x-mana-llm-resolved"].endswith("/dies")
    (error,) = errors
    assert error["error"]["type"] == error["error"]["code"] == "provider_protocol"
    assert answer.events[-2] == error
    if how == "rst":
        assert first(after).startswith(answer.text)
    else:
        assert answer.text == first(after)
    finishes = [choice["finish_reason"] for event in answer.events[:-2] for choice in event["choices"]]
    assert not any(finishes)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_client_is_told_when_an_upstream_dies_in_a_stream(provider, tmp_path):
    """R13 (21 of 21): death before content falls back; after 1 to 20 events it is told, nothing cut or doubled."""

    async def main() -> None:
        async with gateway(ALIASES, tmp_path, health_failures=1000) as running:
            for how in HOWS:
                for after in PLACES:
                    assert_told(await broken(running, provider, how, after, stream=True), how, after)

    uvloop.run(main())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_fallback_answers_when_an_upstream_dies_in_a_whole_answer(provider, tmp_path):
    """A plain answer that is cut anywhere is never half given: the next entry answers."""

    async def main() -> None:
        async with gateway(ALIASES, tmp_path, health_failures=1000) as running:
            for how in HOWS:
                for after in (0, 1):
                    answer = await broken(running, provider, how, after, stream=False)
                    assert (answer.status, answer.text) == (200, FALLBACK), (how, after)

    uvloop.run(main())


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("openai/sim.error.after-3", "provider_server"),
        ("groq/sim.error.after-3", "provider_server"),
        ("openrouter/sim.error.after-3", "provider_server"),
        ("ollama/sim.error.after-3", "provider_server"),
        ("google/sim.error.after-3", "provider_server"),
        ("openai/sim.malformed.after-3", "provider_protocol"),
        ("ollama/sim.malformed.after-3", "provider_protocol"),
        ("google/sim.malformed.after-3", "provider_protocol"),
    ],
)
def test_client_is_told_when_an_error_comes_after_content(model, kind):
    """An error or a broken line after content is one error event and [DONE]; the provider's health hears of it."""

    async def main() -> None:
        async with gateway(health_failures=1) as running:
            answer = await chat(running.port, model, stream=True)
            *_, error, end = answer.events
            assert (error["error"]["type"], end) == (kind, "[DONE]")
            assert answer.text.startswith("[simulated]")
            assert list(running.application.health.problems()) == [model.partition("/")[0]]

    uvloop.run(main())


@pytest.mark.parametrize("model", ["openai/sim.no-done", "openai/sim.no-finish", "groq/sim.no-done"])
def test_stream_is_whole_when_only_one_of_its_two_ends_came(model):
    """A finish without [DONE], or [DONE] without a finish, is a clean end: nothing is invented, no error."""

    async def main() -> None:
        async with gateway() as running:
            answer = await chat(running.port, model, stream=True)
            assert answer.events[-1] == "[DONE]"
            assert not any("error" in event for event in answer.events)
            finishes = [c["finish_reason"] for event in answer.events[:-1] for c in event["choices"]]
            assert [word for word in finishes if word] == ([] if "no-finish" in model else ["stop"])
            assert not running.application.health._breakers[model.partition("/")[0]].failures

    uvloop.run(main())


@pytest.mark.parametrize("body", [b"data: [DONE]\n\n", b": nothing to say\n\ndata: [DONE]\n\n"])
def test_stream_ends_well_when_it_is_whole_and_empty(body):
    """A stream of nothing but its end marker is an answer: 200, [DONE], the connection not cut."""

    async def main() -> None:
        async with puppet(saying([STREAM_HEAD + body])) as url, gateway(openai_base_url=url) as running:
            answer = await chat(running.port, "openai/any", stream=True)
            assert (answer.status, answer.events, answer.complete) == (200, ["[DONE]"], True)

    uvloop.run(main())
