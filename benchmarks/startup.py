"""How soon the gateway answers after it was started, and how much memory it holds then."""

import time
from statistics import median
from typing import Final

from benchmarks.processes import free_ports
from benchmarks.stand import Stand, gateway_program

STARTS: Final = 5
# What it does after its first answer (asking for models) is part of an idle gateway's memory.
_SETTLE_S: Final = 0.5


def measure_startup(stand: Stand, upstream: int, starts: int) -> dict[str, float]:
    """Medians: seconds until the first 200 and until `--help` was printed; megabytes of an idle gateway."""
    ready, sizes, helped = [], [], []
    for _ in range(starts):
        port = free_ports(1)[0]
        with stand.gateway(port, upstream) as gateway:
            ready.append(gateway.until_ready(port, "/livez"))
            time.sleep(_SETTLE_S)
            sizes.append(gateway.rss_mb())
        with stand.measured([gateway_program(), "--help"]) as told:
            helped.append(told.until_ended())
    return {
        "ready_s": median(ready),
        "ready_s_min": min(ready),
        "help_s": median(helped),
        "rss_idle_mb": median(sizes),
    }
