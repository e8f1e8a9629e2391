"""Load balancers for tests of rolling restarts: a small one of our own, and haproxy where it is installed."""

import asyncio
import contextlib
import csv
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from tests.caller import call
from tests.process import free_port

PROBE_S = 0.05
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


class Front(Protocol):
    """What stands before the gateways, at `port`; `sees` tells whether it sends requests to one of them."""

    port: int

    async def sees(self, port: int) -> bool: ...


class Balancer:
    """Connects each client to the next backend that said it is ready; retries nothing."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._turns = itertools.cycle(ports)
        self.ready: set[int] = set()
        self.port = 0

    async def sees(self, port: int) -> bool:
        return port in self.ready

    async def probe(self) -> None:
        """Ask everybody for `/readyz`, again and again."""
        while True:
            for port in self._ports:
                with contextlib.suppress(OSError):
                    if (await call(port, "GET /readyz")).status == 200:
                        self.ready.add(port)
                        continue
                self.ready.discard(port)
            await asyncio.sleep(PROBE_S)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection's bytes."""
        turns = itertools.islice(self._turns, len(self._ports))
        port = next((port for port in turns if port in self.ready), None)
        if port is None:
            writer.close()
            return
        try:
            upstream, up = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.gather(_pipe(reader, up), _pipe(upstream, writer))
            finally:
                up.close()
        except OSError:
            # The client sees what happened: a connection that ends without an answer.
            pass
        finally:
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@asynccontextmanager
async def balancer(ports: list[int]) -> AsyncIterator[Front]:
    """Our own before these ports."""
    own = Balancer(ports)
    probing = asyncio.create_task(own.probe())
    server = await asyncio.start_server(own.serve, "127.0.0.1", 0)
    try:
        own.port = server.sockets[0].getsockname()[1]
        yield own
    finally:
        server.close()
        probing.cancel()


CONFIGURATION = """
global
  maxconn 4000
  stats socket {stats}
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 2s
  retries 0
frontend gateways
  bind 127.0.0.1:{port}
  default_backend gateways
backend gateways
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 200ms fall 2 rise 1
{servers}
"""


class Haproxy:
    """The real one, asked by its statistics socket."""

    def __init__(self, port: int, stats: Path) -> None:
        self.port = port
        self._stats = stats

    async def sees(self, port: int) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._stats))
        except OSError:
            return False
        writer.write(b"show stat\n")
        table = list(csv.DictReader((await reader.read()).decode().splitlines()))
        writer.close()
        return any(row["svname"] == f"gateway{port}" and row["status"].startswith("UP") for row in table)


@asynccontextmanager
async def haproxy(folder: Path, ports: list[int]) -> AsyncIterator[Front]:
    """The real one before these ports, which retries nothing."""
    port, file, stats = free_port(), folder / "haproxy.cfg", folder / "stats"
    servers = "\n".join(f"  server gateway{each} 127.0.0.1:{each}" for each in ports)
    file.write_text(CONFIGURATION.format(port=port, servers=servers, stats=stats), encoding="ascii")
    process = await asyncio.create_subprocess_exec(HAPROXY, "-f", str(file), "-db", stdout=-3, stderr=-3)
    try:
        yield Haproxy(port, stats)
    finally:
        process.kill()
        await process.wait()
