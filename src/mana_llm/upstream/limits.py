"""How much one origin may hold of us; the times of a single call are `schema.wire.Limits`."""

import msgspec


class PoolLimits(msgspec.Struct, frozen=True):
    """Bounds of one origin's pool. Source: docs/behaviour.md.

    `wait_s` bounds the wait for a connection when all are busy; `waiters_max` how many may wait.
    """

    connections_max: int = 1000
    idle_max: int = 64
    idle_s: float = 60.0
    wait_s: float = 2.0
    waiters_max: int = 1000


DEFAULT_LIMITS = PoolLimits()
