"""What Prometheus reads, built when it asks: counters, gauges and histograms from plain numbers."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Histogram:
    """Counts by bucket, and their sum in seconds."""

    __slots__ = ("bounds", "counts", "sum_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        self.counts[bisect_left(self.bounds, value_s)] += 1
        self.sum_s += value_s

    def family(self, name: str, text: str) -> Metric:
        """The Prometheus form, buckets cumulated."""
        labels = [*(repr(bound) for bound in self.bounds), "+Inf"]
        buckets = list(zip(labels, accumulate(self.counts), strict=True))
        family = HistogramMetricFamily(name, text)
        family.add_metric([], buckets, self.sum_s)
        return family


class OnScrape(Collector):
    """The collector that a registry asks on every scrape."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


def counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, float]) -> Metric:
    """A counter with a sample for each key, which holds the labels' values; `_total` is added to its name."""
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in list(counts.items()):
        family.add_metric([str(part) for part in key], count)
    return family


def gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    """A gauge with a sample for each key, which holds the labels' values."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
