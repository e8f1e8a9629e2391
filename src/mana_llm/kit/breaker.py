"""One provider's health: healthy, tripped, probing.

The first failures are forgiven; the `failures_max`-th in a row trips it for the back-off. When that has passed,
exactly one request is let through to find out (probing) while the others pass by. Its success makes the provider
healthy again, its failure trips it anew, and a trial that ends without a verdict (its client left) gives the
permit back. An instant comes in as `now_s`; nothing here waits.
"""

from typing import Literal

import msgspec

State = Literal["healthy", "tripped", "probing"]


class Breaker(msgspec.Struct):
    """The state. `until_s` is the end of the back-off, 0.0 when there is none."""

    failures_max: int
    failures: int = 0
    until_s: float = 0.0
    trial_running: bool = False

    def state(self, now_s: float) -> State:
        """Tripped until the back-off has passed, probing from then until a verdict."""
        if not self.until_s:
            return "healthy"
        return "tripped" if now_s < self.until_s else "probing"

    def admits(self, now_s: float) -> bool:
        """Whether a request may go now; takes nothing."""
        return not self.until_s or (now_s >= self.until_s and not self.trial_running)

    def take(self, now_s: float) -> bool:
        """Admit one request; while probing, that is the trial. Every True is followed by one verdict or `back`."""
        if not self.until_s:
            return True
        if now_s < self.until_s or self.trial_running:
            return False
        self.trial_running = True
        return True

    def back(self) -> None:
        """The request ended without a verdict."""
        self.trial_running = False

    def succeed(self) -> None:
        """Forget everything."""
        self.failures = 0
        self.until_s = 0.0
        self.trial_running = False

    def fail(self, now_s: float, backoff_s: float) -> None:
        """Count one failure; trip if it is one too many, or if it was the trial."""
        self.failures += 1
        tried = self.trial_running
        self.trial_running = False
        if tried or self.failures >= self.failures_max:
            self.until_s = max(self.until_s, now_s + backoff_s)

    def park(self, until_s: float) -> None:
        """Trip at once until a given instant."""
        self.failures += 1
        self.trial_running = False
        self.until_s = max(self.until_s, until_s)
