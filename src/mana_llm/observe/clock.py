"""The real clock: the only place that asks the machine for the time."""

import time


class SystemClock:
    """Implements `ports.Clock`; the functions themselves are the methods, which saves a call on the hot path."""

    now_s = staticmethod(time.monotonic)
    wall_s = staticmethod(time.time)
