"""Clients that are slow, silent or gone: each ends at its own deadline and takes nothing with it."""

import asyncio
import time

import pytest
import uvloop

from tests.edge.wire import ask, chat, client, edge, request, run, until
from tests.world import gateway

FLOOD = "openai/sim.flood"
SLOW = "openai/sim.ok.chunks-20.pace-0.05"
HALF_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def test_client_is_told_when_its_headers_do_not_come():
    """Headers that trickle get a 408 at header_s, however busily they trickle."""

    async def play():
        async with gateway(header_s=0.3) as running, client(running.port) as one:
            began = time.monotonic()
            trickle = asyncio.create_task(drip(one, HALF_HEAD + b"A: " + b"b" * 1000))
            answer = await one.answer()
            trickle.cancel()
            return answer, time.monotonic() - began, await one.ended(3)

    answer, took_s, rest = run(play())
    assert (answer.status, answer.error["code"], rest) == (408, "timeout", b"")
    assert 0.25 <= took_s <= 1.0


def test_client_is_told_when_its_body_does_not_come():
    """A body that trickles gets a 408 at body_s."""

    async def play():
        async with gateway(body_s=0.3) as running, client(running.port) as one:
            head, _, body = chat().partition(b"\r\n\r\n")
            one.send(head + b"\r\n\r\n")
            began = time.monotonic()
            trickle = asyncio.create_task(drip(one, body))
            answer = await one.answer()
            trickle.cancel()
            return answer, time.monotonic() - began

    answer, took_s = run(play())
    assert (answer.status, answer.error["code"]) == (408, "timeout")
    assert 0.25 <= took_s <= 1.0


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"\r\n\r\n"])
def test_connection_ends_silently_when_no_request_was_begun(begun):
    """A connection that only opened, or sent empty lines, is closed at header_s without a word."""

    async def play():
        async with edge(header_s=0.2) as running, client(running.port) as one:
            one.send(begun)
            return await one.ended(2)

    assert run(play()) == b""


@pytest.mark.parametrize("between", [b"", b"\r\n"])
def test_connection_ends_silently_when_idle_after_an_answer(between):
    """An idle kept connection is closed at keep_alive_s, also after a large answer and a stray empty line."""

    async def play():
        limits = {"keep_alive_s": 0.3, "header_s": 0.1, "body_bytes_max": 1 << 23}
        async with edge(**limits) as running, client(running.port) as one:
            one.send(request("POST", "/", b"x" * (1 << 22)))
            answer = await one.answer()
            one.send(between)
            began = time.monotonic()
            rest = await one.ended(3)
            return len(answer.body), rest, time.monotonic() - began

    size, rest, took_s = run(play())
    assert (size, rest) == (1 << 22, b"")
    assert 0.25 <= took_s <= 1.0


def test_second_request_has_its_own_deadline_when_it_trickles():
    """On a kept connection the header deadline begins with the next request's first byte."""

    async def play():
        async with edge(header_s=0.3) as running, client(running.port) as one:
            one.send(request("GET", "/a") + b"GET /b HT")
            first = await one.answer()
            return first.status, (await one.answer()).status

    assert run(play()) == (200, 408)


@pytest.mark.parametrize("more", [b"\r\n", b"GET /v1/mod"])
def test_answer_is_not_disturbed_when_bytes_follow_its_request(more):
    """A stray empty line, or half of the next request, costs an answer that takes longer than header_s nothing."""

    async def play():
        async with gateway(header_s=0.1, body_s=0.1) as running, client(running.port) as one:
            one.send(chat(model=SLOW, stream=True))
            await until(lambda: upstream(running))
            one.send(more)
            return await one.answer()

    answer = run(play())
    assert answer.status == 200
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def stalled(running, port_client, model: str) -> None:
    """A client that asks for a long stream, reads its beginning, and then reads no more."""
    port_client.send(chat(model=model, stream=True))
    await port_client.head()


def upstream(running):
    return [entry for entry in running.simulator.log if entry.method == "POST"]


async def never_reading(stall_s: float) -> tuple[float, int]:
    """How long a client that never reads is borne after writing stopped, and how many connections are left."""
    async with gateway(stall_s=stall_s) as running, client(running.port, 4096) as one:
        await stalled(running, one, FLOOD)
        one.writer.transport.pause_reading()
        await until(lambda: any(each.flow.write_paused for each in running.server.server_state.connections), 10)
        began = time.monotonic()
        await running.simulator.wait_until(lambda: upstream(running)[0].ended == "client-closed", stall_s + 10)
        return time.monotonic() - began, len(running.server.server_state.connections)


def test_upstream_is_let_go_when_the_client_never_reads():
    """R10 (stall_s 0.5 of 60): a client that never reads is cut at stall_s, and its upstream is closed."""
    took_s, connections = run(never_reading(0.5))
    assert took_s <= 2.5
    assert connections == 0


@pytest.mark.long
def test_upstream_is_let_go_when_the_client_never_reads_for_a_minute():
    """R10 (stall_s 60 of 60): a client that never reads is cut at 60 s, 2 s more or less, its upstream with it."""
    took_s, connections = run(never_reading(60.0))
    assert 58 <= took_s <= 62
    assert connections == 0


def test_stall_is_noticed_when_the_client_sends_more_meanwhile():
    """A client that does not read cannot put its end off by sending the next request, or pieces of it."""

    async def play():
        async with gateway(stall_s=0.5, header_s=30.0) as running, client(running.port, 4096) as one:
            await stalled(running, one, FLOOD)
            one.writer.transport.pause_reading()
            one.send(chat(model=FLOOD, stream=True) + HALF_HEAD)
            await until(lambda: any(each.flow.write_paused for each in running.server.server_state.connections), 10)
            await drip(one, b"A: b\r\n" * 3)
            await running.simulator.wait_until(lambda: upstream(running)[0].ended == "client-closed", 5)
            await until(lambda: not running.server.server_state.connections)
            return len(upstream(running))

    assert run(play()) == 1


@pytest.mark.parametrize("keep", ["keep-alive", "close"])
def test_connection_is_cut_when_a_whole_answer_is_not_read(keep):
    """A whole answer that the client does not read is cut at stall_s too, kept connection or not."""

    async def play():
        async with edge(stall_s=0.4, body_bytes_max=1 << 24) as running, client(running.port, 4096) as one:
            one.send(request("POST", "/", b"x" * (1 << 23), f"Connection: {keep}"))
            one.writer.transport.pause_reading()
            await until(lambda: running.seen, 10)
            await until(lambda: not running.server.server_state.connections, 4)

    run(play())


LEAVES = {
    "reset": lambda one: one.reset(),
    "close": lambda one: one.close(),
    "half-close": lambda one: one.writer.write_eof(),
}


@pytest.mark.parametrize("way", LEAVES)
@pytest.mark.parametrize("model", ["openai/sim.hang", SLOW.replace("20", "400"), "ollama/sim.hang"])
def test_upstream_is_let_go_when_the_client_leaves(way, model):
    """R4 (3 of 5): reset, close and half-close each end the work upstream; a black hole is R10's write stall."""

    async def play():
        async with gateway() as running, client(running.port) as one:
            one.send(chat(model=model, stream="hang" not in model))
            await running.simulator.wait_until(lambda: bool(upstream(running)))
            LEAVES[way](one)
            await running.simulator.wait_until(lambda: upstream(running)[0].ended == "client-closed", 1)
            await until(lambda: not running.server.server_state.tasks)

    run(play())


def test_running_request_is_let_go_when_a_pipelining_client_is_cut():
    """With requests waiting behind it, the running one is the one that ends with the connection."""

    async def play():
        async with gateway(stall_s=0.3) as running, client(running.port, 4096) as one:
            one.send(chat(model=FLOOD, stream=True) + chat() + chat())
            await one.head()
            one.writer.transport.pause_reading()
            await running.simulator.wait_until(lambda: upstream(running)[0].ended == "client-closed", 10)
            return [entry.model for entry in upstream(running)]

    assert run(play()) == ["sim.flood"]


def test_pipelined_requests_stay_few_when_thousands_are_sent():
    """While requests wait for their turn nothing more is read, so a client cannot fill the memory with them."""

    async def play():
        async with edge(stall_s=30.0, body_bytes_max=1 << 24) as running, client(running.port) as one:
            for _ in range(400):
                one.send(request("GET", "/") * 100)
            most = 0
            for _ in range(40_000):
                await one.answer()
                for each in running.server.server_state.connections:
                    most = max(most, len(each._waiting))
            return most, len(running.seen)

    most, seen = run(play())
    assert seen == 40_000
    # One read of the loop's 256 KiB holds so many of them.
    assert most <= 262_144 // len(request("GET", "/")) + 1


async def drip(one, data: bytes, pace_s: float = 0.02) -> None:
    """Send byte by byte, too slowly for any deadline here."""
    for index in range(len(data)):
        one.send(data[index : index + 1])
        await asyncio.sleep(pace_s)


async def attacked(port: int, kind: str, pace_s: float) -> float:
    """One attacker, until it is cut; the seconds that it lasted."""
    began = time.monotonic()
    async with client(port, 4096) as one:
        one.send({"header": HALF_HEAD, "body": chat()[:-10], "read": chat(model=FLOOD, stream=True)}[kind])
        if kind != "read":
            trickle = asyncio.create_task(drip(one, b"a" * 10_000, pace_s))
            await one.ended(60)
            trickle.cancel()
            return time.monotonic() - began
        await one.head()
        one.writer.transport.pause_reading()
        # A paused transport hears of no reset, but a write does.
        while not one.writer.transport.is_closing():
            await asyncio.sleep(pace_s)
            one.send(b"\r\n")
        return time.monotonic() - began


async def besieged(kinds: dict[str, int], good: int, limit_s: float) -> tuple[list[float], list[int]]:
    """The seconds that each attacker lasted, and what the good requests got meanwhile."""
    async with gateway(header_s=limit_s, body_s=limit_s, stall_s=limit_s) as running:
        each = [kind for kind, count in kinds.items() for _ in range(count)]
        attacks = [asyncio.create_task(attacked(running.port, kind, limit_s / 20)) for kind in each]
        statuses = [(await ask(running.port, chat())).status for _ in range(good)]
        lasted_s = await asyncio.gather(*attacks)
        assert not running.server.server_state.connections
        return lasted_s, statuses


def test_good_traffic_is_served_when_slow_clients_hold_on():
    """R31 (45 of 5,000): beside trickling and not reading clients, all good requests succeed; attackers are cut."""
    lasted_s, statuses = uvloop.run(besieged({"header": 20, "body": 20, "read": 5}, 300, 0.5))
    assert statuses == [200] * 300
    assert max(lasted_s[:40]) <= 2.0


@pytest.mark.long
def test_good_traffic_is_served_when_thousands_of_slow_clients_hold_on():
    """R31 (5,000 of 5,000): beside 5,000 attackers, 100 of them not reading, all good requests succeed."""
    lasted_s, statuses = uvloop.run(besieged({"header": 2450, "body": 2450, "read": 100}, 2_000, 10.0))
    assert statuses == [200] * 2_000
    assert max(lasted_s[:4900]) <= 20.0
