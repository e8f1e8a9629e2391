"""More clients than usual, than descriptors, or that hardly read: the others are served as if they were not there."""

import asyncio
import resource
import socket
import struct
import sys
import time
from pathlib import Path

import pytest
import uvloop

from tests.caller import begin_chat, body_for, call, chat
from tests.measured import p99, quietest
from tests.process import Served, served

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory and descriptors are read from /proc")

KIB = 1024
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n"
LARGE = "openai/sim.ok.bytes-5242880.chunks-500"
ENORMOUS = "openai/sim.ok.bytes-67108864.chunks-6400"
SHARE_BYTES = 128 * KIB
"""What R8 allows one client that hardly reads."""
SPARE = 500
"""Descriptors of ours that are not clients: R32 takes as many as the limit allows beside them."""
STARVED_S = 1.0
"""From its connect to its answer: the kernel repeats a connect that found no room after a second."""
PACE_S = 0.01


async def connected(port: int, receive_bytes: int | None = None) -> socket.socket:
    """A client's socket; `receive_bytes` keeps the kernel from reading for it."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


async def answered(sock: socket.socket) -> bytes:
    """Ask for /livez and take the answer."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, LIVEZ)
    return await asyncio.wait_for(loop.sock_recv(sock, 4096), 10)


def reset(sock: socket.socket) -> None:
    """Leave without occupying a port of ours for a minute."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def until(ready, limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not ready():  # noqa: ASYNC110 - the kernel has no event for it
            await asyncio.sleep(0.02)


async def crowd(folder: Path, idle: int, per_s: int, seconds: float, keep_alive_s: float) -> None:
    """So many idle clients, and so many new ones per second: all of these are answered, and the idle ones time out."""
    async with served(folder, MANA_LLM_KEEP_ALIVE_S=str(keep_alive_s)) as running:
        base = running.descriptors()
        resting = []
        for _ in range(idle):
            resting.append(sock := await connected(running.port))
            assert b" 200 " in await answered(sock)
        assert running.descriptors() >= base + 0.99 * idle
        waits_s = await churn(running, per_s, seconds)
        # Nobody new was left standing before the door.
        assert len(waits_s) >= seconds * per_s * 0.95
        by_second = [waits_s[at : at + per_s] for at in range(0, len(waits_s) - per_s // 2, per_s)]
        assert min(map(p99, by_second)) <= STARVED_S
        assert (await chat(running.port, "openai/sim.ok")).status == 200
        # Two more may be to the provider.
        await until(lambda: running.descriptors() <= base + 2, keep_alive_s + 5)
        for sock in resting:
            sock.close()


async def churn(running: Served, per_s: int, seconds: float) -> list[float]:
    """Clients that come at a rate, each for one request; how long each took from its connect to its answer."""
    loop = asyncio.get_running_loop()
    began, tasks = loop.time(), []

    async def one() -> float:
        came_at = loop.time()
        sock = await connected(running.port)
        try:
            assert b" 200 " in await answered(sock)
        finally:
            reset(sock)
        return loop.time() - came_at

    while loop.time() < began + seconds:
        while len(tasks) < (loop.time() - began) * per_s:
            tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(0.01)
    return list(await asyncio.gather(*tasks))


def test_new_clients_are_served_when_many_are_idle(tmp_path):
    """R32 (500 idle, 200 connects/s of 10,000 and 1,000): every new client is served soon, the idle ones time out."""
    uvloop.run(crowd(tmp_path, 500, 200, 1.0, 2.0))


@pytest.mark.long
def test_new_clients_are_served_when_ten_thousand_are_idle(tmp_path):
    """R32 (10,000 idle, or what the limit on open files allows; 1,000 connects/s): every new client is served, in
    a quiet second 99 of 100 within a second, and FDs are back within 80 s.
    """
    idle = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] * 3 // 4 - SPARE)
    print(f"{idle} idle clients")  # noqa: T201 - fewer than 10,000 must not go unsaid
    uvloop.run(crowd(tmp_path, idle, 1000, 10.0, 75.0))


def test_gateway_sheds_and_heals_when_descriptors_run_out(tmp_path):
    """R33 (256 of 256 descriptors): those too many are told 503, a log line a second, no busy loop; all else goes on.

    Its other half, memory, is in test_memory.py.
    """

    async def main() -> None:
        async with served(tmp_path, ULIMIT_N="256") as running:
            loop = asyncio.get_running_loop()
            served_before = await connected(running.port)
            assert b" 200 " in await answered(served_before)
            began, cpu_s = loop.time(), running.cpu_s()
            others = [await connected(running.port) for _ in range(600)]
            shed = [await _shed(sock) for sock in others[-20:]]
            assert all(b" 503 " in answer or not answer for answer in shed)
            assert any(b"retry-after: 1\r\n" in answer and b'"overloaded"' in answer for answer in shed)
            await asyncio.sleep(1.0)
            assert running.cpu_s() - cpu_s <= 0.20 * (loop.time() - began)
            lines = running.said.read_text(encoding="utf-8").count("more clients than open files")
            assert 1 <= lines <= loop.time() - began + 1
            # Who had been served and was idle made room; who is inside still gets to providers.
            assert await _shed(served_before) == b""
            assert await _chatted(others[0])
            for sock in others:
                reset(sock)
            async with asyncio.timeout(5):
                while (await chat(running.port, "openai/sim.ok")).status != 200:
                    pass

    uvloop.run(main())


async def _shed(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    try:
        return await asyncio.wait_for(loop.sock_recv(sock, 4096), 10)
    except ConnectionResetError:
        return b""


async def _chatted(sock: socket.socket) -> bool:
    loop, body = asyncio.get_running_loop(), body_for("openai/sim.ok")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n" % len(body)
    await loop.sock_sendall(sock, head + body)
    return b" 200 " in await asyncio.wait_for(loop.sock_recv(sock, 4096), 10)


async def misers(folder: Path, count: int, chunks: int, added_s: float) -> None:
    """So many clients take a byte per second each of a large stream: what they cost, and what the p99 of the delays
    of other streams' chunks gains by them.
    """
    async with served(folder) as running:
        for _ in range(3):
            assert (await chat(running.port, LARGE, stream=True)).complete
        before = running.rss_bytes()

        async def alone() -> list[float]:
            return await delays_s(running, chunks)

        async def beside() -> list[float]:
            # Far more than the kernel takes for it: this one shows that the provider waits.
            socks = [await _begin_large(running, ENORMOUS), *[await _begin_large(running) for _ in range(count - 1)]]
            await _until_still(running)
            sipping = asyncio.create_task(_sip(socks))
            found = await delays_s(running, chunks)
            assert not sipping.done()
            assert running.rss_bytes_max() - before <= count * SHARE_BYTES
            assert any(entry.ended == "open" for entry in running.simulator.log), "the provider was not made to wait"
            sipping.cancel()
            for sock in socks:
                reset(sock)
            await running.simulator.wait_until(lambda: all(entry.ended != "open" for entry in running.simulator.log))
            return found

        alone_s, beside_s = await quietest(alone, beside, lambda alone_s, beside_s: beside_s - alone_s <= added_s)
        assert beside_s - alone_s <= added_s, (alone_s, beside_s)


async def delays_s(running: Served, chunks: int) -> list[float]:
    """How much later than by their pace the pieces of a few streams come."""

    async def one() -> list[float]:
        found = []
        stream = await begin_chat(running.port, f"openai/sim.ok.chunks-{chunks}.pace-{PACE_S}", stream=True)
        await stream.until_events(1)
        last_at = time.perf_counter()
        while not stream.answer.complete and await stream.more():
            found.append(time.perf_counter() - last_at - PACE_S)
            last_at = time.perf_counter()
        stream.close()
        return found

    return [delay_s for found in await asyncio.gather(*(one() for _ in range(4))) for delay_s in found]


async def _sip(socks: list[socket.socket]) -> None:
    """A byte per second each, evenly: all of them at once would hold up this loop and not the gateway."""
    loop = asyncio.get_running_loop()
    while True:
        for sock in socks:
            assert await asyncio.wait_for(loop.sock_recv(sock, 1), 10)
            await asyncio.sleep(1 / len(socks))


async def _until_still(running: Served) -> None:
    """Until everything that can hold bytes of the large streams is full."""
    sent = -1
    async with asyncio.timeout(60):
        while sent != (sent := sum(entry.bytes_sent for entry in running.simulator.log)) or not sent:  # noqa: ASYNC110
            await asyncio.sleep(0.3)


async def _begin_large(running: Served, model: str = LARGE) -> socket.socket:
    sock = await connected(running.port, receive_bytes=4096)
    body = body_for(model, stream=True)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n" % len(body)
    await asyncio.get_running_loop().sock_sendall(sock, head + body)
    return sock


def test_memory_stays_when_clients_hardly_read(tmp_path):
    """R8 (50 of 500): clients that read 1 B/s of 5 MiB cost 128 KiB each; providers wait, other streams do not."""
    uvloop.run(misers(tmp_path, 50, 40, 0.05))


@pytest.mark.long
def test_memory_stays_when_five_hundred_clients_hardly_read(tmp_path):
    """R8 (500 of 500): clients that read 1 B/s of 5 MiB cost 128 KiB each; providers wait, and the p99 delay of
    other streams' chunks is at most 5 ms more than without them.
    """
    uvloop.run(misers(tmp_path, 500, 400, 0.005))


def test_probe_is_answered_when_clients_come_and_go(tmp_path):
    """A hundred clients that leave without a word cost nothing that stays."""

    async def main() -> None:
        async with served(tmp_path) as running:
            await call(running.port, "GET /livez")
            base = running.descriptors()
            for _ in range(100):
                reset(await connected(running.port))
            assert (await call(running.port, "GET /readyz")).status == 200
            await until(lambda: running.descriptors() <= base, 5)

    uvloop.run(main())
