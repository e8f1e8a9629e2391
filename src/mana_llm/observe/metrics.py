"""Prometheus metrics as plain counters and bucket arrays; metric objects are only built when somebody scrapes.

An increment of a metric object costs about a microsecond and there are several per request; a dictionary entry
costs a tenth of that. Every label value comes from a closed or bounded set.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Target

DURATION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OVERHEAD_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


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


class Metrics:
    """Counts what the observer port tells it; implements `ports.Observer`.

    `health` tells who is healthy; `known` whether a model has a name of its own here: what clients make up is
    counted as `other`.
    """

    def __init__(self, version: str, health: Callable[[], dict[str, bool]], known: Callable[[str], bool]) -> None:
        self._known = known
        self._version = version
        self._health = health
        self._requests: dict[tuple[str, int], int] = {}
        self._calls: dict[tuple[str, str, str], int] = {}
        self._resolved: dict[tuple[str, str], int] = {}
        self._fallbacks: dict[tuple[str, str, str], int] = {}
        self._broken: dict[tuple[str, str], int] = {}
        self._tokens: dict[str, list[int]] = {}
        self._truncated: dict[tuple[str], int] = {}
        self._in_flight = 0
        self._cancelled = 0
        self._duration = Histogram(DURATION_S)
        self._first = Histogram(DURATION_S)
        self._overhead = Histogram(OVERHEAD_S)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(self._families))

    def attempt_ended(self, target: Target, status: str) -> None:
        key = (target.provider, target.model, status)
        if key not in self._calls and not self._known(target.label):
            key = (target.provider, "other", status)
        self._calls[key] = self._calls.get(key, 0) + 1

    def stream_broke(self, target: Target, reason: str) -> None:
        key = (target.provider, reason)
        self._broken[key] = self._broken.get(key, 0) + 1

    def fallback(self, from_model: str, to_model: str, reason: str) -> None:
        key = (from_model, to_model, reason)
        self._fallbacks[key] = self._fallbacks.get(key, 0) + 1

    def request_began(self) -> None:
        self._in_flight += 1

    def request_ended(self, exchange: Exchange) -> None:
        self._in_flight -= 1
        key = (exchange.model, exchange.status)
        self._requests[key] = self._requests.get(key, 0) + 1
        if exchange.status == 499:
            self._cancelled += 1
        duration_s = exchange.ended_s - exchange.began_s
        self._duration.observe(duration_s)
        if exchange.first_s:
            self._first.observe(exchange.first_s - exchange.began_s)
        if exchange.overhead_s is not None:
            self._overhead.observe(exchange.overhead_s)
        if exchange.target:
            self._answered(exchange, exchange.target)

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self._registry)

    def _answered(self, exchange: Exchange, target: Target) -> None:
        if exchange.alias:
            key = (exchange.alias, target.label)
            self._resolved[key] = self._resolved.get(key, 0) + 1
        if exchange.prompt_cut:
            provider = (target.provider,)
            self._truncated[provider] = self._truncated.get(provider, 0) + 1
        usage = exchange.usage
        if usage:
            row = self._tokens.get(target.provider)
            if row is None:
                row = self._tokens[target.provider] = [0, 0]
            row[0] += usage.tokens_in
            row[1] += usage.tokens_out

    def _families(self) -> Iterator[Metric]:
        yield _counter("mana_llm_requests", "Client requests, by model as asked.", ("model", "status"), self._requests)
        calls = ("provider", "model", "status")
        yield _counter("mana_llm_llm_requests", "Provider calls, by resolved model.", calls, self._calls)
        yield _counter("mana_llm_alias_resolved", "Answers by alias and entry.", ("alias", "target"), self._resolved)
        steps = ("from_model", "to_model", "reason")
        yield _counter("mana_llm_fallback", "Steps from an entry to the next.", steps, self._fallbacks)
        yield _counter(
            "mana_llm_streams_broken",
            "Streams that broke after content.",
            ("provider", "reason"),
            self._broken,
        )
        tokens = {
            (name, kind): count
            for name, row in self._tokens.items()
            for kind, count in zip(("input", "output"), row, strict=True)
        }
        yield _counter("mana_llm_tokens", "Tokens as reported.", ("provider", "type"), tokens)
        text = "Answers to prompts of which the provider dropped a part."
        yield _counter("mana_llm_prompts_truncated", text, ("provider",), self._truncated)
        yield _counter("mana_llm_cancelled", "Requests whose client left.", (), {(): self._cancelled})
        yield _gauge("mana_llm_in_flight", "Requests under way.", (), {(): self._in_flight})
        healthy = {(name,): int(state) for name, state in self._health().items()}
        yield _gauge("mana_llm_provider_healthy", "1 if the provider is asked.", ("provider",), healthy)
        yield self._duration.family("mana_llm_request_duration_seconds", "Whole requests.")
        yield self._first.family("mana_llm_first_token_seconds", "Until the first content of a stream.")
        yield self._overhead.family("mana_llm_overhead_seconds", "What the gateway adds.")
        yield _gauge("mana_llm_build_info", "The version.", ("version",), {(self._version,): 1})


class _Families(Collector):
    """The collector that the registry asks on every scrape."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


def _counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in list(counts.items()):
        family.add_metric([str(part) for part in key], count)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
