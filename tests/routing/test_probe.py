"""Probes over real sockets: what each answer teaches, and that nothing ends the probing."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from mana_llm.observe.clock import SystemClock
from mana_llm.ports import Provider, ProviderEntry
from mana_llm.providers.registry import entries
from mana_llm.routing.health import HealthPolicy, ProviderHealthCache
from mana_llm.routing.probe import BODY_BYTES_MAX, HealthProbe, ProbePolicy
from mana_llm.schema.errors import ProviderConnectError, ProviderServerError
from mana_llm.settings import Secret, Settings
from mana_llm.simulator import Simulator
from mana_llm.upstream.client import Upstream
from tests.puppet import Play, answer, puppet, request_of

NAME = "groq"
LIST = b'{"object":"list","data":[]}'
PATIENT_S = 10.0


def configured(url: str, name: str = NAME) -> ProviderEntry:
    settings = dataclasses.replace(Settings(), **{f"{name}_base_url": url, f"{name}_api_key": Secret("key")})
    return entries(settings)[name]


class Probed:
    """A probe of some providers and what it teaches; `told` has the transitions."""

    def __init__(self, transport: Any, *found: ProviderEntry, timeout_s: float = 5.0, interval_s: float = 0.01) -> None:
        self.transport = transport
        self.entries = found
        policy = HealthPolicy(2, 60.0, lambda: 1.0)
        self.health = ProviderHealthCache([entry.name for entry in found], policy, SystemClock())
        self.told: list[tuple[str, bool]] = []
        self.health.add_listener(lambda name, healthy: self.told.append((name, healthy)))
        self.probe = HealthProbe(transport, found, self.health, ProbePolicy(interval_s, timeout_s, lambda: 1.0))

    async def once(self, entry: ProviderEntry | None = None) -> None:
        entry = entry or self.entries[0]
        assert entry.provider
        await self.probe.probe(entry.name, entry.provider)

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.health.mark_unhealthy(NAME, ProviderConnectError("no"), self.health.take(NAME) or 1)

    def failures(self, name: str = NAME) -> int:
        return self.health.told(name).consecutive_failures


async def until(condition: Callable[[], bool]) -> None:
    """Ask again until it holds."""
    async with asyncio.timeout(PATIENT_S):
        while not condition():  # noqa: ASYNC110 - what probes teach has no event
            await asyncio.sleep(0.002)


def saying(reply: bytes, *, then_wait: bool = False) -> Play:
    """Answer every request of a connection with `reply`; maybe fall silent behind it."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            writer.write(reply)
            await writer.drain()
            if then_wait:
                await reader.read()

    return play


def status(code: int, body: bytes = b"{}", fields: bytes = b"") -> bytes:
    return answer(body, b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\n%b" % (code, fields))


async def learnt(reply: bytes, failed: int, *, then_wait: bool = False, timeout_s: float = 5.0) -> tuple[int, str]:
    """The failures in a row and the state after one probe that got `reply`, `failed` connect errors having come."""
    transport = Upstream()
    async with puppet(saying(reply, then_wait=then_wait)) as url:
        probed = Probed(transport, configured(url), timeout_s=timeout_s)
        probed.fail(failed)
        await probed.once()
        await transport.close()
    told = probed.health.told(NAME)
    return told.consecutive_failures, told.state


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("failed", [0, 1, 2])
def test_provider_is_healthy_when_the_probe_gets_a_200(failed):
    """Its list heals what connect errors did, trip included."""
    assert uvloop.run(learnt(answer(LIST), failed)) == (0, "healthy")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 422])
@pytest.mark.parametrize(("failed", "state"), [(0, "healthy"), (1, "healthy"), (2, "tripped")])
def test_probe_is_no_verdict_when_the_answer_is_about_the_request(code, failed, state):
    """A refused key or a list that is not there says nothing about health, neither good nor bad."""
    assert uvloop.run(learnt(status(code), failed)) == (failed, state)


@pytest.mark.parametrize(
    "reply",
    [
        status(429, fields=b"Retry-After: 3600\r\n"),
        status(402),
        status(500),
        status(503, fields=b"Retry-After: 3600\r\n"),
        status(302, fields=b"Location: http://169.254.169.254/\r\n"),
        status(204, b""),
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 500 Said\r\nContent-Length: 99\r\n\r\nhalf",
    ],
    ids=["429", "402", "500", "503", "302", "204", "no HTTP", "half an error"],
)
def test_probe_is_one_failure_when_the_answer_is_bad(reply):
    """Each is one failure, forgiven the first time, whatever it says about coming again."""
    assert uvloop.run(learnt(reply, 0, then_wait=b"half" in reply, timeout_s=0.3)) == (1, "healthy")
    assert uvloop.run(learnt(reply, 1, then_wait=b"half" in reply, timeout_s=0.3)) == (2, "tripped")


NO_LISTS = {
    "a page": answer(b"<html>It works!</html>", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"),
    "a list as a page": answer(LIST, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"),
    "no type": answer(LIST, b"HTTP/1.1 200 OK\r\n"),
    "a page as JSON": answer(b"<html>It works!</html>", OK),
    "a long page as JSON": answer(b"<html>".ljust(2 * BODY_BYTES_MAX), OK),
    "another object": answer(b'{"status":"up"}', OK),
    "half a list": answer(LIST[:-1], OK),
    "a list that breaks off": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nno size\r\n",
    "nothing": answer(b"", OK),
    "an error": answer(b'{"error":{"message":"no"}}', OK),
}


@pytest.mark.parametrize("name", NO_LISTS)
def test_probe_is_one_failure_when_a_200_is_no_list_of_models(name):
    """Whoever else sits on the port is no provider: a 200 heals only with the right type and a list in it."""
    assert uvloop.run(learnt(NO_LISTS[name], 0)) == (1, "healthy")
    assert uvloop.run(learnt(NO_LISTS[name], 2)) == (3, "tripped")


def test_ollama_is_ill_when_a_web_server_has_its_port():
    """The page that it shows for every path is a protocol error, and no sign of life."""
    page = answer(b"<html>It works!</html>", b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n")

    async def main() -> None:
        transport = Upstream()
        async with puppet(saying(page)) as url:
            entry = entries(dataclasses.replace(Settings(), ollama_url=url.removesuffix("/v1")))["ollama"]
            probed = Probed(transport, entry)
            await probed.once()
            await probed.once()
        await transport.close()
        told = probed.health.told("ollama")
        assert (told.state, told.last_error) == ("tripped", "ProviderProtocolError")

    uvloop.run(main())


@pytest.mark.parametrize(
    "begun",
    [b"", OK, OK + b"Content-Length: 99\r\n\r\n"],
    ids=["nothing", "half a head", "a head"],
)
def test_probe_fails_when_no_body_begins_in_time(begun):
    """Connecting, the head and the beginning of the body have to come within the probe's limit."""
    assert uvloop.run(learnt(begun, 0, then_wait=True, timeout_s=0.2)) == (1, "healthy")


def test_probe_succeeds_when_only_the_rest_of_the_body_is_late():
    """What begins well counts; nobody waits longer than the limit for the rest."""
    begun = OK + b"Content-Length: 99\r\n\r\n{"
    assert uvloop.run(learnt(begun, 2, then_wait=True, timeout_s=0.5)) == (0, "healthy")


def test_probe_cuts_the_connection_when_the_list_is_long():
    """Of a list that does not end a little is read; then the upstream sees us leave."""

    async def main() -> None:
        left = asyncio.Event()

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(OK + b'Content-Length: 100000000\r\n\r\n{"data":[' + b" " * (2 * BODY_BYTES_MAX))
            try:
                await reader.read()
            finally:
                left.set()

        transport = Upstream()
        async with puppet(play) as url:
            probed = Probed(transport, configured(url), timeout_s=60.0)
            await asyncio.wait_for(probed.once(), PATIENT_S)
            await asyncio.wait_for(left.wait(), PATIENT_S)
            assert not probed.failures()
        await transport.close()

    uvloop.run(main())


def test_probes_share_one_connection_when_the_lists_are_short():
    """A list that is whole leaves its connection open for the next probe and for requests."""

    async def main() -> None:
        transport = Upstream()
        async with Simulator(host="127.0.0.1", port=0) as simulator:
            probed = Probed(transport, configured(simulator.openai_url))
            for _ in range(3):
                await probed.once()
            assert [entry.status for entry in simulator.log] == [200] * 3
            assert len({entry.connection for entry in simulator.log}) == 1
        await transport.close()

    uvloop.run(main())


def test_provider_goes_and_comes_back_when_nobody_sends_requests():
    """Probes alone find out that a provider is gone, and that it is back: one word for each."""

    async def main() -> None:
        transport = Upstream()
        async with puppet(saying(answer(LIST))) as url:
            pass
        probed = Probed(transport, configured(url))
        probed.probe.start()
        await until(lambda: probed.told == [(NAME, False)])
        port = int(url.rsplit(":", 1)[1].partition("/")[0])
        server = await asyncio.start_server(saying(answer(LIST)), "127.0.0.1", port)
        await until(lambda: probed.told == [(NAME, False), (NAME, True)])
        await probed.probe.close()
        server.close()
        await transport.close()

    uvloop.run(main())


class Transport:
    """Does to each host what it is told to: raises, hangs, hangs whatever is done, or carries on."""

    def __init__(self, carrier: Upstream, deeds: dict[str, Callable[[], Any]]) -> None:
        self.carrier = carrier
        self.deeds = deeds
        self.sent: list[str] = []

    async def send(self, call: Any, limits: Any) -> Any:
        host = call.endpoint.origin.host
        self.sent.append(host)
        if host in self.deeds:
            await self.deeds[host]()
        return await self.carrier.send(call, limits)

    async def close(self) -> None:
        await self.carrier.close()


async def _raises() -> None:
    raise LookupError("a bug")


async def _hangs() -> None:
    await asyncio.Event().wait()


async def _hangs_on() -> None:
    """Like somebody who swallows a cancellation."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ProviderServerError("was told to stop") from None


def test_probing_goes_on_when_a_probe_raises_or_hangs(monkeypatch):
    """A bug in one provider's probe is logged and no verdict, a hanging one is held up by nobody: the next come."""
    monkeypatch.setattr("mana_llm.routing.probe.GRACE_S", 0.05)
    logged: list[str] = []
    log = logging.getLogger("mana_llm.routing.probe")
    monkeypatch.setattr(log, "exception", lambda text, *values: logged.append(text % values))

    async def main() -> None:
        async with puppet(saying(answer(LIST))) as url:
            hosts = {"raises.test": _raises, "hangs.test": _hangs, "hangs-on.test": _hangs_on}
            transport = Transport(Upstream(), hosts)
            found = [
                configured("http://raises.test/v1", "together"),
                configured("http://hangs.test/v1", "mistral"),
                configured("http://hangs-on.test/v1", "openrouter"),
                configured(url),
            ]
            probed = Probed(transport, *found, timeout_s=0.3)
            probed.probe.start()
            await until(lambda: all(transport.sent.count(host) >= 3 for host in (*hosts, "127.0.0.1")))
            await probed.probe.close()
            assert len(logged) >= 2
            assert all("together" in line for line in logged)
            assert probed.failures("together") == 0
            assert {("mistral", False), ("openrouter", False)} <= set(probed.told)
            await transport.close()

    uvloop.run(main())


def test_probing_goes_on_when_the_provider_itself_has_a_bug(monkeypatch):
    """What encoding a probe or judging its answer raises is logged; the next probe comes, and nothing is left open."""

    async def main() -> None:
        transport = Upstream()
        async with puppet(saying(status(500))) as url:
            entry = configured(url)
            asked: list[int] = []

            def bug(provider: Provider, code: int, *_: object) -> None:
                asked.append(code)
                raise LookupError(provider.name)

            monkeypatch.setattr(type(entry.provider), "decode_error", bug)
            monkeypatch.setattr(logging.getLogger("mana_llm.routing.probe"), "disabled", True)
            probed = Probed(transport, entry)
            probed.probe.start()
            await until(lambda: len(asked) >= 3)
            await probed.probe.close()
            assert probed.failures() == 0
            (pool,) = transport._pools.values()
            assert len(pool._all) == len(pool._idle) == 1
        await transport.close()

    uvloop.run(main())


def test_verdict_is_dropped_when_a_request_was_heard_first():
    """A probe that is still on its way when a request fails or succeeds changes nothing when it comes."""

    async def main() -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            asked.set()
            await go_on.wait()
            writer.write(answer(LIST))

        transport = Upstream()
        async with puppet(play) as url:
            probed = Probed(transport, configured(url))
            probed.fail(1)
            probing = asyncio.create_task(probed.once())
            await asked.wait()
            probed.fail(1)
            go_on.set()
            await probing
            assert (probed.failures(), probed.health.told(NAME).state) == (2, "tripped")
        await transport.close()

    uvloop.run(main())


def test_nothing_is_probed_when_the_interval_is_0():
    """0 turns probing off; starting and closing then do nothing."""

    async def main() -> None:
        transport = Transport(Upstream(), {})
        probed = Probed(transport, configured("http://off.test/v1"), interval_s=0.0)
        probed.probe.start()
        assert len(asyncio.all_tasks()) == 1
        await probed.probe.close()
        assert not transport.sent

    uvloop.run(main())


def test_probe_leaves_nothing_behind_when_it_is_closed():
    """Closing in the middle of a probe ends it: no task, no verdict, no connection."""

    async def main() -> None:
        asked, left = asyncio.Event(), asyncio.Event()

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            asked.set()
            await reader.read()
            left.set()

        transport = Upstream()
        async with puppet(play) as url:
            probed = Probed(transport, configured(url))
            probed.probe.start()
            await asyncio.wait_for(asked.wait(), PATIENT_S)
            await probed.probe.close()
            await asyncio.wait_for(left.wait(), PATIENT_S)
            assert probed.failures() == 0
        await transport.close()

    uvloop.run(main())
