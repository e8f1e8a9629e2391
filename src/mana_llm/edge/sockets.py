"""What the kernel knows of client connections: peers that vanished without a word, and descriptors that run out."""

import logging
import socket
from typing import Any, Final

try:
    import resource
except ImportError:  # pragma: no cover - Windows bounds its sockets elsewhere
    resource = None  # type: ignore[assignment]

_log: Final = logging.getLogger(__name__)

KEEPALIVE_IDLE_S: Final = 20
KEEPALIVE_INTERVAL_S: Final = 10
KEEPALIVE_PROBES: Final = 3
UNACKNOWLEDGED_MS: Final = 60_000
"""Milliseconds that written bytes may stay unacknowledged before the kernel gives the connection up."""
RESERVE_MAX: Final = 1024
"""Descriptors that no client gets, at most; a quarter of all if that is less."""
TELL_S: Final = 1.0
"""Seconds between two log lines of one shortage."""


def watch_peer(transport: Any) -> None:
    """Let the kernel probe a silent peer: one that lost its network is gone within about a minute."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS),
    ):
        # Not every system knows every one of them.
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as it may allow itself; the usual 1,024 is for programs that `select`."""
    if resource is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A system may answer "no limit" and refuse to be taken by its word: then what there was must do.
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        _log.debug("the limit on open files stays as it is: %s", error)


class Descriptors:
    """Whether a new client may have a descriptor.

    The kernel gives out the lowest number that is free, so the number of a new one says how many are in use. The last
    are kept for connections to providers, without which those clients that are there could not be answered. Beyond
    them, the loop itself (libuv) takes and drops connections at once, and turns idly no faster for it.
    """

    __slots__ = ("_last", "_told_s")

    def __init__(self, limit: int | None = None) -> None:
        if limit is None:
            limit = _limit()
        self._last = limit - min(limit // 4, RESERVE_MAX)
        self._told_s = float("-inf")

    def short(self, transport: Any) -> bool:
        """Whether this connection is one too many."""
        sock = transport.get_extra_info("socket")
        return sock is not None and sock.fileno() >= self._last

    def tell(self, now_s: float) -> bool:
        """Log the shortage, at most once per `TELL_S`; True if it was logged."""
        if now_s - self._told_s < TELL_S:
            return False
        self._told_s = now_s
        _log.warning("more clients than open files allow: turning away those above %d; see ulimit -n", self._last)
        return True


def _limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else -1
    # "No limit" is -1, or a number that no connection reaches.
    return soft if soft > 0 else 1 << 30
