"""The walk: the entries of a chain in order, past whatever is dead, full or unable, until one answers.

One path for plain and streamed requests and for embeddings. An alias that hedges has two walks along the one chain.
"""

from collections.abc import Mapping

import msgspec

from mana_llm.kit.budget import HedgeBudget, RetryBudgets
from mana_llm.ports import Observer, ProviderEntry
from mana_llm.routing.admission import Admission, Looking
from mana_llm.routing.answer import Answer
from mana_llm.routing.attempt import Request, Task, Ways, attempt
from mana_llm.routing.catalogue import Catalogue
from mana_llm.routing.health import ProviderHealthCache
from mana_llm.routing.hedge import race
from mana_llm.routing.needs import needs_of
from mana_llm.routing.preparation import TIMER_SLACK_S
from mana_llm.routing.rules import is_usable, visitor_of, word_to_go_on
from mana_llm.routing.spans import Spans, tell
from mana_llm.routing.verdicts import Verdicts
from mana_llm.routing.walk import RETRY_S, Walk, WalkLimits
from mana_llm.schema.errors import ProviderError
from mana_llm.schema.events import Exchange
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
        self._verdicts = Verdicts(self._health, self._gates, observer, ways.clock)
        # Whoever waits for a provider that turns out to be ill goes on at once.
        self._health.add_rest_listener(guards.admission.turn_all_away)

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
            if request.stream:
                # Its client waits so long for the beginning, and for the whole as long as anybody's.
                walk.more_s = total_s - client_s
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
        own, hedges = Spans(), Spans()
        walk.spans, hedge = own, walk.twin(hedges)
        ways = iter((walk, hedge))
        try:
            return await race(
                lambda: self._walk_on(next(ways)),
                after_s,
                lambda: self._may_hedge(walk),
                lambda won: self._hedge_ended(hedges, won=won),
            )
        finally:
            tell(walk.exchange, own, hedges)

    def _hedge_ended(self, hedge: Spans, *, won: bool) -> None:
        """A hedge that asked nobody, since what was free is taken meanwhile, costs nothing and was none."""
        if hedge.asked:
            self._observer.hedge_ended("won" if won else "lost")
        else:
            self._hedges.refund()

    def _may_hedge(self, walk: Walk) -> bool:
        """Whether there is somebody to hedge with, and something to pay for it."""
        rest = walk.rest()
        return any(self._usable(later) and not self._lack(walk, later) for later in rest) and self._hedges.spend()

    def _admit(self, walk: Walk, target: Target) -> int | None:
        """The permit to ask an entry, and a place there; 0 if it is skipped, None if its places are taken."""
        entry = self._entries[target.provider]
        if entry.provider is None:
            walk.leave(target, "unconfigured", entry.hint)
            return 0
        if walk.route.policy.on_incapable == "skip" and (lack := self._lack(walk, target)):
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
        second = walk.exchange.attempts > 0
        retries = second and self._health.in_doubt(entry.name)
        if retries and not self._may_retry(walk, target, permit):
            return None
        task = Task(walk.request, target, walk.limits_for(entry, self._now_s()))
        if walk.spans:
            walk.spans.tasks.append(task)
        release = gate.leave
        try:
            answer = await attempt(self._ways, entry.provider, task)
            self._verdicts.succeeded(walk, task, answer, permit)
            if answer.stream:
                # A stream keeps its place until it is closed.
                release = _nothing
        except ProviderError as error:
            if self._verdicts.failed(walk, task, error, permit) and second:
                self._health.retry_failed(entry.name)
            if not _goes_on(walk, target, error):
                raise
            return None
        except BaseException as error:
            self._verdicts.abandoned(walk, task, error, permit)
            raise
        finally:
            release()
            if retries:
                self._retries.leave(entry.name)
        return answer

    def _may_retry(self, walk: Walk, target: Target, permit: int) -> bool:
        """Whether a provider that is in doubt may be asked after another one failed; if not, permit and place are
        given back, and the walk notes why.
        """
        gate, in_flight = self._gates[target.provider], sum(gate.in_flight for gate in self._gates.values())
        if self._retries.enter(target.provider, gate.in_flight, in_flight):
            return True
        gate.leave()
        self._health.give_back(target.provider, permit)
        walk.leave(target, "retry-budget", "it has failed lately, and enough retries are under way")
        walk.waits_s.append(RETRY_S)
        return False

    async def _queue(self, walk: Walk, target: Target) -> int:
        """Wait for a place: the permit to go, 0 if the walk goes on instead.

        As long as no later entry could be asked, the wait is as long as the request may take; nowhere longer than the
        first content may.
        """
        began_s, gate, visitor = self._now_s(), self._gates[target.provider], visitor_of(walk.exchange)
        wait_s, first_s = walk.deadline_s - began_s, walk.first_s
        looking = Looking(self._queue_s, lambda: any(self._usable(later) for later in walk.rest()))
        try:
            seated = await gate.enter(visitor, min(wait_s, first_s or wait_s), first_s, looking)
        finally:
            now_s = self._now_s()
            walk.queued(began_s, now_s)
        if not seated and not self._health.is_healthy(target.provider):
            self._pass_by(walk, target)
            return 0
        walk.placed_s = now_s - began_s
        if seated and first_s and walk.placed_s > first_s - TIMER_SLACK_S:
            # There is a place now, and no time left to speak.
            gate.leave()
            seated = False
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
        return is_usable(self._entries[target.provider], self._health, self._gates[target.provider])

    def _lack(self, walk: Walk, target: Target) -> str | None:
        """What a request needs that an entry is known not to do, where the alias passes such entries by."""
        if walk.route.policy.on_incapable == "error":
            return None
        return self._catalogue.lack(target, needs_of(walk.request))

    def _pass_by(self, walk: Walk, target: Target) -> None:
        walk.leave(target, "cache-unhealthy", "resting after failures")
        walk.resting.append(self._health.rest(target.provider))


def _nothing() -> None:
    """Release nothing: somebody else will."""


def _goes_on(walk: Walk, target: Target, error: ProviderError) -> bool:
    """Whether the next entry is asked after `error`; the walk notes why."""
    word = word_to_go_on(walk.route.policy, error)
    if word != "capability":
        walk.errors.append(error)
    if word:
        walk.leave(target, word, error.detail)
    return word is not None
