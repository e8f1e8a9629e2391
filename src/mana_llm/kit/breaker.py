"""One provider's health: healthy, tripped, probing.

The first failures are forgiven; the `failures_max`-th in a row trips it for the back-off. When that has passed,
exactly one request is let through to find out (probing) while the others pass by. Its success makes the provider
healthy again, its failure trips it anew, and a trial that ends without a verdict (its client left) gives the
permit back. A permit is a number, so that a request that was let through long ago cannot end somebody else's
trial. An instant comes in as `now_s`; nothing here waits.

A failure that comes while the back-off runs is counted and does not lengthen it: the requests that were under way
when it tripped are no new evidence. Were each to draw its own back-off, the longest of many would count, and many
gateways would return together after all.

A stream that broke after its content had begun is not outweighed by the beginning of the next, which may break as
well. While one of the failures in a row is such a break (`broken`), a stream succeeds at its end and not before.

`doubted_until_s` is for whoever sends a request on that another provider failed: such a retry failed here, and until
then, or the next success, further ones may fail as well.

Beside requests there are probes, which ask for something free. A probe's success says that the provider can be
reached, not that it works: it ends a back-off only while the breaker is `curable`, that is while every failure in
it was a connect error or a probe's. `verdicts` numbers everything that was learnt, so that a probe can tell whether
something newer has come while it was on its way.
"""

from typing import Final, Literal

import msgspec

State = Literal["healthy", "tripped", "probing"]

REFUSED: Final = 0
GRANTED: Final = 1
"""Permits; every higher number is a trial's own."""


class Breaker(msgspec.Struct):
    """The state. `until_s` is the end of the back-off, 0.0 when there is none; `trial` the running one's permit;
    `succeeded_s` the instant of the last success, 0.0 before the first. `broken` says that a stream broke after its
    content had begun, `doubted_until_s` until when retries are dubious; a success ends both.
    """

    failures_max: int
    failures: int = 0
    until_s: float = 0.0
    trial: int = 0
    last_trial: int = GRANTED
    curable: bool = True
    verdicts: int = 0
    succeeded_s: float = 0.0
    broken: bool = False
    doubted_until_s: float = 0.0

    def state(self, now_s: float) -> State:
        """Tripped until the back-off has passed, probing from then until a verdict."""
        if not self.until_s:
            return "healthy"
        return "tripped" if now_s < self.until_s else "probing"

    def admits(self, now_s: float) -> bool:
        """Whether a request may go now; takes nothing."""
        return not self.until_s or (now_s >= self.until_s and not self.trial)

    def take(self, now_s: float) -> int:
        """Admit one request, or REFUSED; while probing, it is the trial. Each permit ends in a verdict or `back`."""
        if not self.until_s:
            return GRANTED
        if now_s < self.until_s or self.trial:
            return REFUSED
        self.last_trial += 1
        self.trial = self.last_trial
        return self.trial

    def back(self, permit: int) -> None:
        """The request ended without a verdict."""
        if permit == self.trial:
            self.trial = 0

    def succeed(self, now_s: float) -> None:
        """Forget every failure."""
        self.verdicts += 1
        self.succeeded_s = now_s
        self.failures = 0
        self.until_s = 0.0
        self.trial = 0
        self.curable = True
        self.broken = False
        self.doubted_until_s = 0.0

    def fail(self, permit: int, now_s: float, backoff_s: float, *, curable: bool = False) -> None:
        """Count one failure; trip if it is one too many and no back-off runs, or if it was the trial.

        `curable` says that it is of the kind that a probe's success outweighs: a connect error, or a probe's own.
        """
        tried = self._count(permit, curable=curable)
        if tried or (self.failures >= self.failures_max and now_s >= self.until_s):
            self.until_s = max(self.until_s, now_s + backoff_s)

    def park(self, permit: int, until_s: float) -> None:
        """Trip at once until a given instant; no probe ends that."""
        self._count(permit, curable=False)
        self.until_s = max(self.until_s, until_s)

    def _count(self, permit: int, *, curable: bool) -> bool:
        """One failure more; says whether it was the trial's."""
        self.verdicts += 1
        self.failures += 1
        self.curable = self.curable and curable
        tried = permit == self.trial
        self.back(permit)
        return tried
