"""Bringing a TCP connection about: resolve, alternate the families, race with a stagger (RFC 8305)."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import chain, zip_longest
from typing import Any, TypeAlias

Address: TypeAlias = tuple[socket.AddressFamily, Any]
"""What a socket of the family takes as its peer."""

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[Address]]]

# RFC 8305 section 8: Connection Attempt Delay.
_STAGGER_S = 0.25
ADDRESSES_MAX = 4
# A peer that vanished without a word (sleep, Wi-Fi) is noticed after about a minute, below every cloud's idle limit.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of `host` that are tried: the first four of `lookup`, which see."""
    return (await lookup(host, port))[:ADDRESSES_MAX]


async def lookup(host: str, port: int) -> list[Address]:
    """Every address of `host`, families alternated, the resolver's first choice first.

    Raises:
        OSError: if the name is not known (socket.gaierror) or cannot be a name.
    """
    loop = asyncio.get_running_loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, (host, port))]
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    addresses = list(dict.fromkeys((family, peer) for family, _, _, _, peer in found))
    same = [address for address in addresses if address[0] == addresses[0][0]]
    other = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for address in chain(*zip_longest(same, other)) if address is not None]


async def open_socket(addresses: list[Address]) -> socket.socket:
    """A connected, non-blocking socket to the first address that answers; every other is closed.

    Raises:
        OSError: if none answers: the first one's problem.
    """
    if len(addresses) == 1:
        return await _connect(addresses[0])
    attempts: list[asyncio.Task[socket.socket]] = []
    try:
        return await _race(addresses, attempts)
    finally:
        await _close(attempts)


async def _race(addresses: list[Address], attempts: list[asyncio.Task[socket.socket]]) -> socket.socket:
    waiting: set[asyncio.Task[socket.socket]] = set()
    problem: OSError | None = None
    left = list(addresses)
    while left or waiting:
        if left:
            attempts.append(asyncio.ensure_future(_connect(left.pop(0))))
            waiting.add(attempts[-1])
        done, waiting = await asyncio.wait(
            waiting, timeout=_STAGGER_S if left else None, return_when=asyncio.FIRST_COMPLETED
        )
        for attempt in done:
            error = attempt.exception()
            if error is None:
                # What is left in `attempts` is closed by the caller; the winner is not.
                attempts.remove(attempt)
                return attempt.result()
            if not isinstance(error, OSError):
                raise error
            problem = problem or error
    raise problem or OSError("The name has no address.")


async def _close(attempts: list[asyncio.Task[socket.socket]]) -> None:
    for attempt in attempts:
        # A loser that connected in the same turn of the loop holds a socket that nobody will ask for.
        attempt.add_done_callback(_close_result)
        attempt.cancel()


def _close_result(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(address: Address) -> socket.socket:
    family, peer = address
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        await asyncio.get_running_loop().sock_connect(opened, peer)
    except BaseException:
        opened.close()
        raise
    return opened
