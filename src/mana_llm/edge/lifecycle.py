"""Whether the gateway is serving or stopping, and whether anybody still sends it requests."""

from typing import Final

import msgspec

from mana_llm.edge.shed import Shed

QUIET_S: Final = 1.0
"""Seconds without a request after which nobody is taken to send any more."""
PROBED_S: Final = 30.0
"""Seconds for which whoever asked for `/readyz` is taken to ask again: three times the period of a usual probe."""


class Lifecycle:
    """`stopping`: no new work is welcome. `cutting`: running requests are being ended. `probes`: asked if ready.
    `shed`: what there was no room for.
    """

    __slots__ = ("cutting", "probes", "shed", "stopping")

    def __init__(self) -> None:
        self.stopping = False
        self.cutting = False
        self.probes = 0
        self.shed = Shed()


class Drain(msgspec.Struct, frozen=True):
    """How a gateway stops, in seconds from the signal on: `accept_s` is a part of `drain_s`."""

    accept_s: float
    """For load balancers to learn that it stops; new connections are still taken."""
    drain_s: float
    """For all that runs, new or old; then it is cut."""


class Traffic:
    """Whether requests may still come, judged by those that came; looked at now and then, told nothing.

    A load balancer that asks `/readyz` will send requests until it has asked again, however rarely it sends them: as
    long as there is one, silence means nothing.
    """

    __slots__ = ("_active_s", "_probed_s", "_probes", "_requests")

    def __init__(self) -> None:
        self._requests: object = None
        self._probes = 0
        self._active_s = self._probed_s = float("-inf")

    def look(self, now_s: float, requests: object, probes: int) -> None:
        """Take note of a count of requests (of any kind that changes with each), and of readiness probes."""
        if requests != self._requests:
            self._requests, self._active_s = requests, now_s
        if probes != self._probes:
            self._probes, self._probed_s = probes, now_s

    def may_come(self, now_s: float) -> bool:
        """Whether somebody sent a request just now, or asks for readiness now and then."""
        return now_s - self._active_s < QUIET_S or now_s - self._probed_s < PROBED_S
