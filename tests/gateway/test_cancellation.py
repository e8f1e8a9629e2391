"""A client who leaves: everything that worked for it stops, wherever the request was."""

import asyncio

import pytest
import uvloop

from mana_llm.routing.answer import LiveStream
from mana_llm.upstream.response import Response
from tests.caller import Exchange, begin_chat, counted
from tests.world import World, gateway

AT_ONCE = 100
FLOWS = "openai/sim.ok.chunks-400.pace-0.02"
LEAVE = {"closes": Exchange.close, "resets": Exchange.reset, "closes its half": Exchange.half_close}
EVERY_WAY = pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
CHAIN = "aliases: {mana/slow: {chain: [openai/sim.hang, groq/sim.ok]}}\ndefault: mana/slow\n"


def held(running: World) -> int:
    """Upstream connections that are in nobody's pool of idle ones."""
    pools = running.application.transport._pools.values()
    return sum(len(pool._all) - len(pool._idle) + pool._opening for pool in pools)


def chats(running: World) -> list:
    """The chat requests that upstreams have got."""
    return [entry for entry in running.simulator.log if entry.method == "POST"]


def number(running: World, name: str, **labels: str) -> float:
    """One of the gateway's metrics."""
    return counted(running.application.metrics.text(), name, **labels)


async def until(condition) -> None:
    """Ask again until it holds; five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the gateway's own counters have no event
            await asyncio.sleep(0.002)


async def opened(running: World, model: str, *, stream: bool) -> list[Exchange]:
    """So many requests under way, each of which has reached its upstream."""
    running.simulator.log.clear()
    exchanges = [await begin_chat(running.port, model, stream=stream) for _ in range(AT_ONCE)]
    await running.simulator.wait_until(lambda: len(chats(running)) == AT_ONCE, 10.0)
    return exchanges


async def depart(running: World, exchanges: list[Exchange], leave) -> list[float]:
    """All leave at once; every upstream sees it, within a second; the seconds that each took."""
    before = number(running, "mana_llm_requests_total", status="499")
    left_at = asyncio.get_running_loop().time()
    for exchange in exchanges:
        leave(exchange)
    await running.simulator.wait_until(lambda: all(entry.ended != "open" for entry in chats(running)), 2.0)
    assert [entry.ended for entry in chats(running)] == ["client-closed"] * len(exchanges)
    waits_s = [entry.closed_at - left_at for entry in chats(running)]
    assert max(waits_s) <= 1.0
    await until(lambda: number(running, "mana_llm_in_flight") == 0)
    assert number(running, "mana_llm_requests_total", status="499") == before + len(exchanges)
    assert number(running, "mana_llm_cancelled_total") == before + len(exchanges)
    assert held(running) == 0
    assert not running.application.health.problems()
    for exchange in exchanges:
        exchange.close()
    return waits_s


def assert_prompt(waits_s: list[float]) -> None:
    """99 of 100 within 0.1 s."""
    assert sorted(waits_s)[len(waits_s) * 99 // 100 - 1] <= 0.1


async def streams_left(times: int, leave=Exchange.close) -> list[float]:
    waits_s: list[float] = []
    async with gateway(drain_s=0.1) as running:
        for _ in range(times):
            exchanges = await opened(running, FLOWS, stream=True)
            for exchange in exchanges:
                await exchange.until_events(2)
            waits_s += await depart(running, exchanges, leave)
    return waits_s


async def waits_left(times: int, folder, leave=Exchange.close, *, stream: bool) -> list[float]:
    waits_s: list[float] = []
    async with gateway(CHAIN, folder, drain_s=0.1) as running:
        for _ in range(times):
            waits_s += await depart(running, await opened(running, "mana/slow", stream=stream), leave)
            assert {entry.model for entry in chats(running)} == {"sim.hang"}
        assert number(running, "mana_llm_fallback_total") == 0
        assert number(running, "mana_llm_llm_requests_total", status="cancelled") == times * AT_ONCE
    return waits_s


async def floods_left() -> None:
    """Clients that do not read and then leave: the gateway is waiting to send, not to read."""
    async with gateway(drain_s=0.1) as running:
        model = "openai/sim.ok.bytes-40000000.chunks-2000"
        exchanges = [await begin_chat(running.port, model, stream=True) for _ in range(3)]
        for exchange in exchanges:
            await exchange.until_events(1)
            exchange.stop_reading()
        await until(lambda: all(connection.flow.write_paused for connection in running.server.server_state.connections))
        await depart(running, exchanges, Exchange.reset)


def test_upstream_is_let_go_when_a_client_that_does_not_read_leaves():
    """A client that stopped reading and then left ends its flood upstream too."""
    uvloop.run(floods_left())


@EVERY_WAY
def test_upstream_is_let_go_when_the_client_leaves_mid_stream(leave):
    """R1 (100 of 1,000): streams closed midway by their clients are closed upstream, all in 1 s."""
    uvloop.run(streams_left(1, leave))


@pytest.mark.long
def test_upstreams_are_let_go_when_a_thousand_clients_leave_mid_stream():
    """R1 (1,000 of 1,000): streams closed midway by their clients are closed upstream, p99 in 0.1 s, all in 1 s."""
    assert_prompt(uvloop.run(streams_left(10)))


@EVERY_WAY
def test_walk_ends_when_the_client_leaves_before_the_first_token(leave, tmp_path):
    """R2 (100 of 1,000): clients that leave while an upstream is silent end it there; no fallback is begun."""
    uvloop.run(waits_left(1, tmp_path, leave, stream=True))


@pytest.mark.long
def test_walks_end_when_a_thousand_clients_leave_before_the_first_token(tmp_path):
    """R2 (1,000 of 1,000): clients that leave while an upstream is silent end it there; no fallback is begun."""
    assert_prompt(uvloop.run(waits_left(10, tmp_path, stream=True)))


@EVERY_WAY
def test_walk_ends_when_the_client_leaves_a_plain_request(leave, tmp_path):
    """R3 (100 of 1,000): a plain request whose client left is ended upstream; no fallback is begun."""
    uvloop.run(waits_left(1, tmp_path, leave, stream=False))


@pytest.mark.long
def test_walks_end_when_a_thousand_clients_leave_plain_requests(tmp_path):
    """R3 (1,000 of 1,000): a plain request whose client left is ended upstream; no fallback is begun."""
    assert_prompt(uvloop.run(waits_left(10, tmp_path, stream=False)))


def test_upstream_is_let_go_when_the_client_leaves_half_of_a_whole_answer():
    """A client that leaves while the body of a plain answer comes ends it upstream."""

    async def main() -> None:
        async with gateway(drain_s=0.1) as running:
            await depart(running, await opened(running, "openai/sim.hang.how-body", stream=False), Exchange.close)

    uvloop.run(main())


def test_provider_is_tried_again_when_the_client_left_its_trial():
    """R19 (1 of 1): a trial whose client leaves gives its permit back; still half-open, the next one is the trial."""

    async def main() -> None:
        async with gateway(health_failures=1, health_backoff_s=0.0) as running:
            failed = await begin_chat(running.port, "openai/sim.status.code-500")
            assert (await failed.whole()).status == 503
            trial = await begin_chat(running.port, "openai/sim.hang")
            await running.simulator.wait_until(lambda: chats(running)[-1].model == "sim.hang")
            passing = await (await begin_chat(running.port, "openai/sim.ok")).whole()
            assert passing.error["attempts"][0]["reason"] == "cache-unhealthy"
            trial.close()
            await until(lambda: number(running, "mana_llm_in_flight") == 0)
            assert running.application.health.problems() == {"openai": "ProviderServerError"}
            assert (await (await begin_chat(running.port, "openai/sim.ok")).whole()).status == 200
            assert [entry.model for entry in chats(running)] == ["sim.status.code-500", "sim.hang", "sim.ok"]
            assert not running.application.health.problems()

    uvloop.run(main())


@pytest.mark.parametrize(
    ("owner", "check"),
    [
        (LiveStream, lambda _: floods_left()),
        (Response, lambda _: streams_left(1)),
        (Response, lambda folder: waits_left(1, folder, stream=False)),
    ],
    ids=["floods without LiveStream.close", "streams without Response.close", "plain without Response.close"],
)
def test_check_fails_when_nothing_is_released(owner, check, monkeypatch, tmp_path):
    """The checks above are worth something: a gateway that forgets to let go fails them."""
    monkeypatch.setattr(owner, "close", lambda _: None)
    with pytest.raises((AssertionError, TimeoutError)):
        uvloop.run(check(tmp_path))
