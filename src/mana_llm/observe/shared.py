"""One set of figures for several workers: each writes down what it has counted, and whoever is asked adds them up.

Prometheus scrapes one worker, a different one each time, and must not see a counter fall. So a worker that is scraped
writes its own figures before it shows them, and one that takes a dead worker's place goes on from what that wrote
last: nothing that was ever shown is lost. What the others counted since they last wrote is shown a moment later.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client.core import Metric

SUMMED: Final = frozenset(("mana_llm_in_flight", "mana_llm_provider_in_flight", "mana_llm_provider_queue_length"))
"""Gauges of which all workers' values are added up. Of the others, the asked worker's own is shown."""


class Family(msgspec.Struct):
    """A metric with all its samples, as written down."""

    name: str
    text: str
    type: str
    samples: dict[str, float]
    """By the JSON of the sample's name and its labels, sorted."""


class Shared:
    """The figures of the worker in place `index`, and the way to the others'; `folder` is theirs alone."""

    def __init__(self, folder: Path, index: int) -> None:
        self._folder = folder
        self._file = folder / f"{index}.json"
        self._before = [family for family in _read(self._file) if family.type != "gauge"]

    def write(self, families: Iterable[Metric]) -> None:
        """Let the others know what was counted here."""
        self._write(self._own(families))

    def merged(self, families: Iterable[Metric]) -> list[Metric]:
        """This worker's figures with all others', the dead ones' included."""
        figures = self._own(families)
        self._write(figures)
        for file in sorted(self._folder.glob("*.json")):
            if file != self._file:
                _add(figures, _read(file))
        return [_metric(family) for family in figures.values()]

    def _own(self, families: Iterable[Metric]) -> dict[str, Family]:
        figures = {metric.name: _family(metric) for metric in families}
        _add(figures, self._before)
        return figures

    def _write(self, figures: dict[str, Family]) -> None:
        # Renamed into its place, so that nobody reads a half.
        half = self._file.with_suffix(".half")
        # Without its folder, which somebody may have cleared away, a worker still serves, and shows its own.
        with contextlib.suppress(OSError):
            half.write_bytes(msgspec.json.encode(list(figures.values())))
            half.replace(self._file)


def _read(file: Path) -> list[Family]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Family])
    except OSError:
        # Not written yet.
        return []


def _family(metric: Metric) -> Family:
    samples = {
        msgspec.json.encode((sample.name, sorted(sample.labels.items()))).decode(): sample.value
        for sample in metric.samples
    }
    return Family(metric.name, metric.documentation, metric.type, samples)


def _add(figures: dict[str, Family], others: Iterable[Family]) -> None:
    for other in others:
        family = figures.setdefault(other.name, Family(other.name, other.text, other.type, {}))
        if family.type != "gauge" or family.name in SUMMED:
            for key, value in other.samples.items():
                family.samples[key] = family.samples.get(key, 0.0) + value


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.text, family.type)
    for key, value in family.samples.items():
        name, labels = msgspec.json.decode(key, type=tuple[str, list[tuple[str, str]]])
        metric.add_sample(name, dict(labels), value)
    return metric
