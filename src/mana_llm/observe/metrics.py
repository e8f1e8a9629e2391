"""Prometheus metrics as plain counters and bucket arrays; metric objects are only built when somebody scrapes.

An increment of a metric object costs about a microsecond and there are several per request; a dictionary entry
costs a tenth of that. Every label value comes from a closed or bounded set.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

import msgspec
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from mana_llm.observe.exposition import Histogram, OnScrape, counter, gauge
from mana_llm.observe.spending import Price, Spending, Used
from mana_llm.schema.events import Exchange
from mana_llm.schema.models import Facts
from mana_llm.schema.targets import Target

DURATION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OVERHEAD_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
CONNECT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
OTHER: Final = "other"
"""The label of every model that is not known here: clients and upstreams cannot create series."""


class Gate(Protocol):
    """How full a provider is."""

    in_flight: int

    @property
    def waiting(self) -> int: ...


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What the metrics ask of others.

    `healthy` tells by provider whether it is asked; `known` whether a model has a name of its own here, as
    `provider/model` or an alias; `facts` what is published of a provider's model; `gates` how full the providers
    are; `dropped` how many log lines were lost; `shed` by reason what was turned away unread.
    """

    version: str
    healthy: Callable[[], Mapping[str, bool]]
    known: Callable[[str], bool]
    facts: Callable[[str, str], Facts | None]
    gates: Callable[[], Mapping[str, Gate]] = dict
    dropped: Callable[[], int] = int
    shed: Callable[[], Mapping[str, int]] = dict


SPENDINGS_MAX: Final = 1024
"""Models whose price is remembered: names come from clients."""


class Metrics:
    """Counts what the observer port tells it; implements `ports.Observer`."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._known = sources.known
        self._requests: dict[tuple[str, int], int] = {}
        self._calls: dict[tuple[str, str, str], int] = {}
        self._resolved: dict[tuple[str, str], int] = {}
        self._fallbacks: dict[tuple[str, str, str], int] = {}
        self._broken: dict[tuple[str, str], int] = {}
        self._hedges: dict[str, int] = {"won": 0, "lost": 0}
        self._truncated: dict[tuple[str], int] = {}
        self._estimated: dict[tuple[str], int] = {}
        self._reloads: dict[tuple[str], int] = {("ok",): 0, ("rejected",): 0, ("unchanged",): 0}
        self._reloaded_well = True
        self._spending: dict[str, Spending] = {}
        self._used_of: dict[tuple[str, str], Used] = {}
        self._in_flight = 0
        self._cancelled = 0
        self._cached: dict[str, int] = {"hit": 0, "miss": 0}
        self._duration = Histogram(DURATION_S)
        self._first = Histogram(DURATION_S)
        self._overhead = Histogram(OVERHEAD_S)
        self._queued = Histogram(DURATION_S)
        self._connect = Histogram(CONNECT_S)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(OnScrape(lambda: self._view(self.families())))
        self._view: Callable[[Iterable[Metric]], Iterable[Metric]] = iter

    def attempt_ended(self, target: Target, status: str) -> None:
        key = (target.provider, target.model, status)
        if key not in self._calls and not self._known(target.label):
            key = (target.provider, OTHER, status)
        self._calls[key] = self._calls.get(key, 0) + 1

    def stream_broke(self, target: Target, reason: str) -> None:
        key = (target.provider, reason)
        self._broken[key] = self._broken.get(key, 0) + 1

    def fallback(self, from_model: str, to_model: str, reason: str) -> None:
        key = (from_model, to_model, reason)
        self._fallbacks[key] = self._fallbacks.get(key, 0) + 1

    def config_reloaded(self, result: str) -> None:
        """The aliases were read again: `ok`, `unchanged`, or `rejected` and the old ones stay."""
        self._reloads[(result,)] += 1
        self._reloaded_well = result != "rejected"

    def hedge_ended(self, result: str) -> None:
        self._hedges[result] = self._hedges.get(result, 0) + 1

    def request_began(self) -> None:
        self._in_flight += 1

    def request_ended(self, exchange: Exchange) -> None:
        """Count a request; the exchange learns its cost."""
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
        if exchange.queued_s:
            self._queued.observe(exchange.queued_s)
        if exchange.connect_s:
            self._connect.observe(exchange.connect_s)
        if exchange.cache != "off":
            self._cached[exchange.cache] += 1
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
        if exchange.estimated:
            provider = (target.provider,)
            self._estimated[provider] = self._estimated.get(provider, 0) + 1
        if exchange.usage:
            spending = self._spending.get(target.label)
            # A model that was unknown may have been listed since.
            if spending is None or (spending.other and self._known(target.label)):
                spending = self._spending_of(target)
            exchange.cost_usd = spending.add(exchange.usage)

    def _spending_of(self, target: Target) -> Spending:
        """Where a model's usage is counted: under its name if that is known, else with all the others' of its
        provider, by its own price.
        """
        price = Price(self._sources.facts(target.provider, target.model))
        if len(self._spending) >= SPENDINGS_MAX:
            self._spending = {label: each for label, each in self._spending.items() if not each.other}
        if self._known(target.label):
            used = self._used_of.setdefault((target.provider, target.model), Used())
            spending = Spending(price, used, other=False)
        else:
            used = self._used_of.setdefault((target.provider, OTHER), Used())
            spending = Spending(price, used, other=True)
        self._spending[target.label] = spending
        return spending

    def share(self, view: Callable[[Iterable[Metric]], Iterable[Metric]]) -> None:
        """Show what `view` makes of the families: those of several workers, added up."""
        self._view = view

    def families(self) -> Iterator[Metric]:
        """Every metric that there is, those without a sample yet included."""
        yield from self._walks()
        yield from self._used()
        yield from self._waits()
        yield from self._state()

    def _walks(self) -> Iterator[Metric]:
        yield counter("mana_llm_requests", "Client requests, by model as asked.", ("model", "status"), self._requests)
        calls = ("provider", "model", "status")
        yield counter("mana_llm_llm_requests", "Provider calls, by resolved model.", calls, self._calls)
        yield counter("mana_llm_alias_resolved", "Answers by alias and entry.", ("alias", "target"), self._resolved)
        steps = ("from_model", "to_model", "reason")
        yield counter("mana_llm_fallback", "Steps from an entry to the next.", steps, self._fallbacks)
        text = "Streams that broke after content."
        yield counter("mana_llm_streams_broken", text, ("provider", "reason"), self._broken)
        hedges = {(result,): count for result, count in self._hedges.items()}
        yield counter("mana_llm_hedges", "Second entries asked because the first was slow.", ("result",), hedges)
        text = "Answers to prompts of which the provider dropped a part."
        yield counter("mana_llm_prompts_truncated", text, ("provider",), self._truncated)
        text = "Answers whose tokens nobody counted: a stream that was cut, embeddings."
        yield counter("mana_llm_usage_estimated", text, ("provider",), self._estimated)
        yield counter("mana_llm_cancelled", "Requests whose client left.", (), {(): self._cancelled})
        cached = {(result,): count for result, count in self._cached.items()}
        text = "Requests whose answer could be shared: hit where it was another's."
        yield counter("mana_llm_cache_requests", text, ("result",), cached)

    def _used(self) -> Iterator[Metric]:
        rows = list(self._used_of.items())
        tokens = {}
        for name, spent in rows:
            tokens[(*name, "input")] = spent.tokens_in
            tokens[(*name, "output")] = spent.tokens_out
            tokens[(*name, "cached_input")] = spent.cached
            tokens[(*name, "reasoning")] = spent.reasoning
        text = "Tokens as reported; cached_input is a part of input, reasoning of output."
        yield counter("mana_llm_tokens", text, ("provider", "model", "type"), tokens)
        model = ("provider", "model")
        cost = {name: spent.cost_usd for name, spent in rows}
        yield counter("mana_llm_cost_usd", "Cost by the published prices, in US dollars.", model, cost)
        unpriced = {name: spent.unpriced for name, spent in rows}
        text = "Tokens of answers whose price is not known: they are not in the cost."
        yield counter("mana_llm_unpriced_tokens", text, model, unpriced)

    def _waits(self) -> Iterator[Metric]:
        yield self._duration.family("mana_llm_request_duration_seconds", "Whole requests.")
        yield self._first.family("mana_llm_first_token_seconds", "Until the first content of a stream.")
        yield self._overhead.family("mana_llm_overhead_seconds", "What the gateway adds.")
        text = "Waits for a place at a provider, of the requests that had to."
        yield self._queued.family("mana_llm_queue_wait_seconds", text)
        text = "Connecting to providers, of the requests that found no open connection."
        yield self._connect.family("mana_llm_upstream_connect_seconds", text)

    def _state(self) -> Iterator[Metric]:
        yield gauge("mana_llm_in_flight", "Requests under way.", (), {(): self._in_flight})
        healthy = {(name,): int(state) for name, state in self._sources.healthy().items()}
        yield gauge("mana_llm_provider_healthy", "1 if the provider is asked.", ("provider",), healthy)
        gates = self._sources.gates()
        inside = {(name,): gate.in_flight for name, gate in gates.items()}
        yield gauge("mana_llm_provider_in_flight", "Requests at the provider.", ("provider",), inside)
        waiting = {(name,): gate.waiting for name, gate in gates.items()}
        yield gauge("mana_llm_provider_queue_length", "Requests that wait for a place.", ("provider",), waiting)
        yield counter("mana_llm_config_reloads", "Configurations read again.", ("result",), self._reloads)
        text, well = "1 if the aliases that were read last could be used.", {(): int(self._reloaded_well)}
        yield gauge("mana_llm_config_last_reload_successful", text, (), well)
        dropped = {(): self._sources.dropped()}
        yield counter("mana_llm_log_lines_dropped", "Log lines that nobody took in time.", (), dropped)
        shed = {(reason,): count for reason, count in self._sources.shed().items()}
        yield counter("mana_llm_shed", "Clients and requests for which there was no room.", ("reason",), shed)
        yield gauge("mana_llm_build_info", "The version.", ("version",), {(self._sources.version,): 1})
