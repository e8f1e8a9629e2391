"""What the simulator remembers of each request: an entry that grows while it is answered."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Ended = Literal["open", "complete", "client-closed", "aborted"]


class LogEntry(msgspec.Struct, kw_only=True):
    """One request and its fate. Times are the event loop's; secrets in headers and target are masked.

    `ended` is open while the answer is being sent; complete when the last byte was handed to the kernel's
    care; client-closed when the client left first (seen at `closed_at`); aborted when a fault ended it.
    """

    number: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any
    dialect: str
    model: str
    connection: int
    connected_at: float
    received_at: float
    status: int = 0
    bytes_sent: int = 0
    ended: Ended = "open"
    ended_at: float | None = None
    closed_at: float | None = None
