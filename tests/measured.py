"""Figures on a machine that is shared: two sides are measured in turns, and each counts with its quietest round."""

import math
from collections.abc import Awaitable, Callable

ROUNDS = 8
Sample = Callable[[], Awaitable[list[float]]]


def p99(found: list[float]) -> float:
    """The value that one in a hundred exceeds."""
    return sorted(found)[math.ceil(len(found) * 0.99) - 1]


async def quietest(one: Sample, other: Sample, good: Callable[[float, float], bool]) -> tuple[float, float]:
    """The lowest p99 of each, from rounds of both that end as soon as these two are `good`, after `ROUNDS` at most.

    A busy machine slows either side now and then; what is slow by itself is so in every round.
    """
    lowest, others_lowest = math.inf, math.inf
    for _ in range(ROUNDS):
        lowest = min(lowest, p99(await one()))
        others_lowest = min(others_lowest, p99(await other()))
        if good(lowest, others_lowest):
            break
    return lowest, others_lowest
