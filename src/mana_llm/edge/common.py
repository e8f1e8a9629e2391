"""What every connection of a server shares."""

import msgspec

from mana_llm.edge.doorkeeper import Doorkeeper
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.kit.outbox import Outbox


class EdgeLimits(msgspec.Struct, frozen=True):
    """What a client connection may cost; seconds and bytes."""

    header_s: float
    body_s: float
    stall_s: float
    keep_alive_s: float
    body_bytes_max: int
    memory_bytes_max: int = 0
    """What the process may have, 0 for no bound."""


class Common(msgspec.Struct, frozen=True):
    """What every connection of a server shares: `doorkeeper` says what is refused, `outbox` holds what is written."""

    doorkeeper: Doorkeeper
    lifecycle: Lifecycle
    outbox: Outbox
