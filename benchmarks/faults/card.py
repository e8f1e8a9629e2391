"""Runs the card: harm the first upstream, ask, judge, mend, and wait until the gateway has forgiven it."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.faults.asking import Door, ask
from benchmarks.faults.judge import Terms, cost_s, judge
from benchmarks.faults.rows import Row
from benchmarks.faults.seen import Seen
from benchmarks.faults.upstreams import FIRST_TEXT, Upstreams

Verdict = Literal["pass", "fail", "void"]

SAMPLES: Final = 200
"""Requests of which a median is taken."""
_WARM: Final = 4
_SETTLE_PAUSE_S: Final = 0.1
_TRIPS_MAX: Final = 10
"""Requests after which an upstream that never answers must have been left alone."""
_MEASURE_S: Final = 30.0


class NotReadyError(Exception):
    """The gateway does not answer from the first upstream while that is well, so nothing can be judged."""


@dataclass(frozen=True)
class Result:
    """One row's outcome; `seen` is the worst of its requests, `added_ms` that of a sustained outage."""

    row: Row
    seen: Seen
    verdict: Verdict
    reason: str
    cost_s: float
    added_ms: float | None = None


class Card:
    """One gateway before the two upstreams. `samples` is how many requests a median is taken of."""

    def __init__(self, door: Door, upstreams: Upstreams, terms: Terms, samples: int = SAMPLES) -> None:
        self._door = door
        self._upstreams = upstreams
        self._terms = terms
        self._samples = samples

    async def run(self, rows: list[Row], tell: Callable[[Row], None] = lambda _row: None) -> list[Result]:
        """Every row in turn; `tell` hears of each before it begins.

        Raises:
            NotReadyError: if the gateway does not ask the first upstream to begin with.
        """
        if not (await self._settled(stream=False) and await self._settled(stream=True)):
            raise NotReadyError(
                f"no answer of the first upstream through {self._door.host}:{self._door.port} as model "
                f"{self._door.model!r} within {self._terms.settle_s:g} s"
            )
        results = []
        for row in rows:
            tell(row)
            results.append(await self._one(row))
        return results

    async def _one(self, row: Row) -> Result:
        if not await self._settled(stream=row.request == "stream"):
            reason = f"the first upstream was well again and not asked for {self._terms.settle_s:g} s"
            return Result(row, Seen(), "void", reason, -1.0)
        try:
            if row.fault == "sustained outage":
                return await self._sustained(row)
            if row.due == "answer":
                return await self._dead(row)
            before = self._upstreams.asked()
            await self._upstreams.harm(row, self._terms.first_token_s)
            result = self._worst(row, [await self._ask(row) for _ in range(row.times)])
            if (row.script or row.late) and self._upstreams.asked() == before:
                return Result(row, result.seen, "void", "the first upstream was not asked", result.cost_s)
            return result
        finally:
            await self._upstreams.mend()

    async def _dead(self, row: Row) -> Result:
        """Answers on several connections at once, each dead from then on; then as many requests again."""
        await self._upstreams.harm(row, self._terms.first_token_s)
        await asyncio.gather(*(self._ask(row) for _ in range(_WARM)))
        await self._upstreams.mend()
        return self._worst(row, await asyncio.gather(*(self._ask(row) for _ in range(_WARM))))

    async def _sustained(self, row: Row) -> Result:
        """What a request costs before an upstream that never answers, once it is left alone, beside a healthy one."""
        well = [await self._ask(row) for _ in range(self._samples)]
        await self._upstreams.harm(row, self._terms.first_token_s)
        for _ in range(_TRIPS_MAX):
            seen = await self._ask(row)
            if 0 <= cost_s(row, seen) < self._terms.first_token_s / 2:
                break
        else:
            reason = f"never left alone: request {_TRIPS_MAX} still waited for it"
            return Result(row, seen, "fail", reason, cost_s(row, seen))
        harmed: list[Seen] = []
        until_s = time.monotonic() + _MEASURE_S
        while len(harmed) < self._samples and time.monotonic() < until_s:
            harmed.append(await self._ask(row))
        worst = self._worst(row, harmed)
        added_ms = 1e3 * (_median_s(row, harmed) - _median_s(row, well))
        reason = worst.reason
        if not reason and added_ms >= self._terms.added_ms:
            reason = f"adds {added_ms:.2f} ms, not less than {self._terms.added_ms:g} ms"
        return Result(row, worst.seen, "fail" if reason else "pass", reason, _median_s(row, harmed), added_ms)

    async def _ask(self, row: Row) -> Seen:
        return await ask(self._door, stream=row.request == "stream", patience_s=self._terms.patience_s)

    def _worst(self, row: Row, answers: list[Seen]) -> Result:
        """The first answer that is wrong, else the slowest."""
        judged = [(judge(row, seen, self._terms), cost_s(row, seen), seen) for seen in answers]
        wrong = next((each for each in judged if each[0]), None)
        reason, cost, seen = wrong or max(judged, key=lambda each: each[1])
        return Result(row, seen, "fail" if reason else "pass", reason, cost)

    async def _settled(self, *, stream: bool) -> bool:
        """Wait until the gateway asks the first upstream again; False if it does not in time."""
        until_s = time.monotonic() + self._terms.settle_s
        while True:
            seen = await ask(self._door, stream=stream, patience_s=self._terms.patience_s)
            if seen.ended == "complete" and seen.text == FIRST_TEXT:
                return True
            if time.monotonic() >= until_s:
                return False
            await asyncio.sleep(_SETTLE_PAUSE_S)


def _median_s(row: Row, answers: list[Seen]) -> float:
    return statistics.median(cost_s(row, seen) for seen in answers)
