"""Socket options by which a client that vanished without a word is noticed."""

import socket
from typing import Any, Final

KEEPALIVE_IDLE_S: Final = 20
KEEPALIVE_INTERVAL_S: Final = 10
KEEPALIVE_PROBES: Final = 3
UNACKNOWLEDGED_MS: Final = 60_000
"""Milliseconds that written bytes may stay unacknowledged before the kernel gives the connection up."""


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
