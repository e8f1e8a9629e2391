"""Samples taken in turn, so that a busy machine is unfair to all alike, and what they come to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

Sample = dict[str, float]
Figures = dict[str, dict[str, float | list[float]]]


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, seconds of load in each, and paced streams that each client reads in each."""

    rounds: int
    seconds: int
    streams: int


THOROUGH: Final = Effort(rounds=3, seconds=2, streams=2)
QUICK: Final = Effort(rounds=1, seconds=1, streams=1)


def in_turn(targets: Mapping[str, Callable[[], Sample]], rounds: int) -> Figures:
    """One sample of each target per round. For each target the median of each figure, and all and the least of the
    CPU; under `ratio` the gateway's CPU over nginx's, each from neighbouring samples.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, take in targets.items():
            samples[name].append(take())
    figures: Figures = {}
    for name, taken in samples.items():
        figures[name] = {key: median(each[key] for each in taken) for key in taken[0]}
        if "cpu_us" in taken[0]:
            figures[name] |= _spread([each["cpu_us"] for each in taken])
    # A run can be too short for the accounting to see nginx at work at all.
    pairs = [
        ours["cpu_us"] / theirs["cpu_us"]
        for theirs, ours in zip(samples["nginx"], samples["gateway"], strict=True)
        if theirs["cpu_us"]
    ]
    figures["ratio"] = {"cpu": median(pairs), "cpu_rounds": pairs, "cpu_min": min(pairs)} if pairs else {}
    return figures


def _spread(values: list[float]) -> dict[str, float | list[float]]:
    return {"cpu_us_min": min(values), "cpu_us_rounds": values}
