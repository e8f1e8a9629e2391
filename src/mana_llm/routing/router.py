"""The walk: the entries of a chain in order, past whatever is dead, full or unable, until one answers.

One path for plain and streamed requests and for embeddings. An alias that hedges has two walks along the one chain.
"""

import asyncio
from collections.abc import Mapping

import msgspec

from mana_llm.kit.budget import HedgeBudget, RetryBudgets
from mana_llm.ports import Observer, ProviderEntry
from mana_llm.routing.admission import Admission
from mana_llm.routing.answer import Answer
from mana_llm.routing.attempt import Request, Task, Ways, attempt
from mana_llm.routing.catalogue import Catalogue
from mana_llm.routing.health import ProviderHealthCache
from mana_llm.routing.hedge import race
from mana_llm.routing.needs import needs_of
from mana_llm.routing.preparation import TIMER_SLACK_S
from mana_llm.routing.walk import Walk, WalkLimits
from mana_llm.schema.errors import ProviderCapabilityError, ProviderError, ProviderTimeoutError
from mana_llm.schema.events import ANONYMOUS, Exchange, Visitor
from mana_llm.schema.targets import Route, Target


class Guards(msgspec.Struct, frozen=True):
    """What decides whether an entry is asked."""

    health: ProviderHealthCache
    admission: Admission
    catalogue: Catalogue


class ProviderRouter:
    """Walks chains."""

    def __init__(
        self,
        ways: Ways,
        entries: Mapping[str, ProviderEntry],
        guards: Guards,
        limits: WalkLimits,
        observer: Observer,
    ) -> None:
        self._ways = ways
        self._entries = entries
        self._health = guards.health
        self._catalogue = guards.catalogue
        self._gates = guards.admission.gates
        self._queue_s = guards.admission.policy.wait_s
        self._limits = limits
        self._observer = observer
        self._now_s = ways.clock.now_s
        self._retries = RetryBudgets(entries)
        self._hedges = HedgeBudget()

    async def answer(self, request: Request, route: Route, exchange: Exchange, client_s: float | None = None) -> Answer:
        """The first answer that the chain gives; whoever gets it closes it. `client_s` is the client's own patience.

        What the walk did is noted in `exchange`, as it happens.

        Raises:
            NoHealthyProviderError: if no entry answered; DeadlineError if the walk's time ran out.
            ProviderError: one that ends the walk: a direct model's own rate limit, or a request that no other
                entry should see.
        """
        walk = Walk(request, route, exchange, self._limits)
        total_s = route.policy.total_s or self._limits.total_s
        if client_s is not None and client_s < total_s:
            walk.patient = False
            total_s = client_s
        walk.deadline_s = self._now_s() + total_s
        hedge_after_s = route.policy.hedge_after_s
        answer = await (self._hedged(walk, hedge_after_s) if hedge_after_s else self._walk_on(walk))
        if answer is None:
            raise walk.exhausted()
        return answer

    async def _walk_on(self, walk: Walk) -> Answer | None:
        """The first answer of the entries that were not stepped on yet; None if there is none.

        Raises:
            DeadlineError: if the walk's time ran out.
        """
        for target in walk.entries:
            if walk.left:
                self._observer.fallback(walk.left[0].label, target.label, walk.left[1])
            permit = self._admit(walk, target)
            if permit is None:
                permit = await self._queue(walk, target)
            if permit and (answer := await self._ask(walk, target, permit)):
                return answer
            if self._now_s() >= walk.deadline_s - TIMER_SLACK_S:
                raise walk.late()
        return None

    async def _hedged(self, walk: Walk, after_s: float) -> Answer | None:
        self._hedges.earn()
        return await race(lambda: self._walk_on(walk), after_s, lambda: self._may_hedge(walk), self._hedge_ended)

    def _hedge_ended(self, won: bool) -> None:  # noqa: FBT001 - told by the race, which has one thing to tell
        self._observer.hedge_ended("won" if won else "lost")

    def _may_hedge(self, walk: Walk) -> bool:
        """Whether there is somebody to hedge with, and something to pay for it."""
        return any(self._usable(target) for target in walk.rest()) and self._hedges.spend()

    def _admit(self, walk: Walk, target: Target) -> int | None:
        """The permit to ask an entry, and a place there; 0 if it is skipped, None if its places are taken."""
        entry = self._entries[target.provider]
        if entry.provider is None:
            walk.leave(target, "unconfigured", entry.hint)
            return 0
        if walk.route.policy.on_incapable == "skip" and (lack := self._catalogue.lack(target, needs_of(walk.request))):
            walk.leave(target, "capability", f"it is not known to do {lack}")
            return 0
        permit = self._health.take(entry.name)
        if not permit:
            self._pass_by(walk, target)
            return 0
        if not self._gates[entry.name].enter_now():
            self._health.give_back(entry.name, permit)
            return None
        return permit

    async def _ask(self, walk: Walk, target: Target, permit: int) -> Answer | None:
        """One attempt with a permit and a place, both of which are given back; health, metrics and the walk learn how
        it went. None if the walk goes on.
        """
        entry, gate = self._entries[target.provider], self._gates[target.provider]
        if entry.provider is None:
            raise TypeError("an entry that is not configured is skipped")
        retries = walk.exchange.attempts > 0 and self._health.in_doubt(entry.name)
        if retries and not self._may_retry(walk, target, permit):
            return None
        task = Task(walk.request, target, walk.limits_for(entry, self._now_s()))
        release = gate.leave
        try:
            answer = await attempt(self._ways, entry.provider, task)
            self._succeeded(walk, task, answer, permit)
            if answer.stream:
                # A stream keeps its place until it is closed.
                answer.stream.on_close, release = release, _nothing
        except ProviderError as error:
            self._failed(walk, task, error, permit)
            if not _goes_on(walk, target, error):
                raise
            return None
        except BaseException as error:
            self._abandoned(walk, task, error, permit)
            raise
        finally:
            release()
            if retries:
                self._retries.leave(entry.name)
        return answer

    def _may_retry(self, walk: Walk, target: Target, permit: int) -> bool:
        """Whether a provider that has failed lately may be asked after another one failed; if not, permit and place
        are given back, and the walk notes why.
        """
        gate, in_flight = self._gates[target.provider], sum(gate.in_flight for gate in self._gates.values())
        if self._retries.enter(target.provider, gate.in_flight, in_flight):
            return True
        gate.leave()
        self._health.give_back(target.provider, permit)
        walk.leave(target, "retry-budget", "it has failed lately, and enough retries are under way")
        return False

    async def _queue(self, walk: Walk, target: Target) -> int:
        """Wait for a place: the permit to go, 0 if the walk goes on instead.

        Where no later entry could be asked now, the wait is as long as the request may take; nowhere longer than the
        first content may.
        """
        exchange, began_s, gate = walk.exchange, self._now_s(), self._gates[target.provider]
        wait_s = walk.deadline_s - began_s
        if any(self._usable(later) for later in walk.rest()):
            wait_s = min(wait_s, self._queue_s)
        first_s = walk.route.policy.ttft_s or self._limits.first_s
        visitor = _visitor(exchange)
        seated = await gate.enter(visitor, wait_s if first_s is None else min(wait_s, first_s), first_s)
        exchange.queued_s += self._now_s() - began_s
        if not seated:
            walk.leave(target, "saturated", f"all {gate.max_concurrent} places are taken")
            walk.waits_s.append(gate.expected_wait_s(visitor))
            return 0
        # While it waited, the provider may have failed others.
        permit = self._health.take(target.provider)
        if not permit:
            gate.leave()
            self._pass_by(walk, target)
        return permit

    def _usable(self, target: Target) -> bool:
        """Whether an entry could be asked at once."""
        gate = self._gates[target.provider]
        return (
            self._entries[target.provider].provider is not None
            and self._health.is_healthy(target.provider)
            and not (gate.max_concurrent and gate.in_flight >= gate.max_concurrent)
        )

    def _pass_by(self, walk: Walk, target: Target) -> None:
        walk.leave(target, "cache-unhealthy", "resting after failures")
        walk.resting.append(self._health.rest(target.provider))

    def _succeeded(self, walk: Walk, task: Task, answer: Answer, permit: int) -> None:
        target, exchange = task.target, walk.exchange
        exchange.attempts += 1
        exchange.waited_s += task.waited_s
        exchange.connect_s += task.connect_s
        self._health.mark_healthy(target.provider, permit)
        self._observer.attempt_ended(target, "ok")
        if answer.stream:
            answer.stream.on_failure = lambda error: self._broke(target, error, walk.deadline_s)

    def _failed(self, walk: Walk, task: Task, error: ProviderError, permit: int) -> None:
        target, now_s = task.target, self._now_s()
        error.provider = target.provider
        if isinstance(error, ProviderTimeoutError) and not _had_its_time(walk, task, now_s):
            self._health.give_back(target.provider, permit)
        else:
            self._health.mark_unhealthy(target.provider, error, permit)
        if task.asked_s:
            self._spent(walk, task, error.reason)

    def _abandoned(self, walk: Walk, task: Task, error: BaseException, permit: int) -> None:
        """The client left or another answered first, or it asked for what cannot be encoded, or it is our own fault:
        nothing about the provider.
        """
        self._health.give_back(task.target.provider, permit)
        if task.asked_s:
            left = isinstance(error, asyncio.CancelledError)
            self._spent(walk, task, "cancelled" if left else type(error).__name__)

    def _spent(self, walk: Walk, task: Task, status: str) -> None:
        """Account for a provider that was asked and gave no answer."""
        exchange = walk.exchange
        exchange.attempts += 1
        exchange.waited_s += self._now_s() - task.asked_s
        exchange.connect_s += task.connect_s
        self._observer.attempt_ended(task.target, status)

    def _broke(self, target: Target, error: ProviderError, deadline_s: float) -> None:
        """A stream failed after its content had begun: the provider's health hears of it, unless it was the walk's
        own time that ended it while it flowed.
        """
        error.provider = target.provider
        if not (isinstance(error, ProviderTimeoutError) and self._now_s() >= deadline_s - TIMER_SLACK_S):
            self._health.mark_unhealthy(target.provider, error)
        self._observer.stream_broke(target, error.reason)


def _nothing() -> None:
    """Release nothing: somebody else will."""


def _visitor(exchange: Exchange) -> Visitor:
    """As whom a request waits. Where nobody needs a key, its address stands for its caller."""
    return Visitor(exchange.peer if exchange.caller == ANONYMOUS else exchange.caller, exchange.lane)


def _had_its_time(walk: Walk, task: Task, now_s: float) -> bool:
    """Whether a provider that was too slow can be judged by it: always if a limit of its own ran out, but not if the
    walk's time did, of which others, or an impatient client, had left it less than the gateway itself gives.
    """
    if now_s < walk.deadline_s - TIMER_SLACK_S:
        return True
    return walk.patient and task.limits.total_s >= task.limits.connect_s


def _goes_on(walk: Walk, target: Target, error: ProviderError) -> bool:
    """Whether the next entry is asked after `error`; the walk notes why."""
    policy = walk.route.policy
    if isinstance(error, ProviderCapabilityError) and policy.on_incapable == "skip":
        walk.leave(target, "capability", error.detail)
        return True
    walk.errors.append(error)
    if not error.walks_on and error.reason not in policy.fallback_on:
        return False
    walk.leave(target, error.reason, error.detail)
    return True
