"""The walk: the entries of a chain in order, past whatever is dead, until one answers or none is left."""

import asyncio
from typing import Final

from mana_llm.ports import Observer, ProviderEntry
from mana_llm.routing.answer import Answer
from mana_llm.routing.attempt import Request, Task, Ways, attempt
from mana_llm.routing.health import ProviderHealthCache
from mana_llm.routing.preparation import TIMER_SLACK_S
from mana_llm.schema.errors import (
    DeadlineError,
    GatewayError,
    NoHealthyProviderError,
    ProviderError,
    ProviderTimeoutError,
)
from mana_llm.schema.targets import Route, Target
from mana_llm.schema.wire import Limits

MIN_ATTEMPT_S: Final = 0.001
RATE_LIMITED: Final = 429


class WalkLimits:
    """Seconds: `total_s` for the whole walk, the rest per attempt; `first_plain_s` is None where a plain answer
    has no limit of its own on its first byte (its head comes with the whole body).
    """

    def __init__(self, connect_s: float, idle_s: float, total_s: float, first_plain_s: float | None) -> None:
        self.connect_s = connect_s
        self.idle_s = idle_s
        self.total_s = total_s
        self.first_plain_s = first_plain_s


class Walk:
    """One request's way along its chain: what was tried, and why it was left.

    `errors` are of the entries that were tried, `resting` of those that rest after failures. `asked` counts the
    providers that were really asked: what is refused before it is sent is not.
    """

    __slots__ = ("asked", "attempts", "deadline_s", "errors", "left", "request", "resting", "route", "waited_s")

    def __init__(self, request: Request, route: Route, deadline_s: float) -> None:
        self.request = request
        self.route = route
        self.deadline_s = deadline_s
        self.attempts: list[dict[str, str]] = []
        self.errors: list[ProviderError] = []
        self.left: tuple[Target, str] | None = None
        self.waited_s = 0.0
        self.resting: list[ProviderError] = []
        self.asked = 0

    def leave(self, target: Target, reason: str, detail: str) -> None:
        """Note that an entry was skipped or failed."""
        self.attempts.append({"model": target.label, "reason": reason, "detail": detail})
        self.left = (target, reason)

    def count(self, task: Task, error: BaseException) -> None:
        """Count the provider if it was asked before it came to `error`, which learns of it."""
        self.asked += bool(task.asked_s)
        if isinstance(error, GatewayError):
            error.asked = self.asked


class ProviderRouter:
    """Walks chains."""

    def __init__(
        self,
        ways: Ways,
        entries: dict[str, ProviderEntry],
        health: ProviderHealthCache,
        observer: Observer,
    ) -> None:
        self._ways = ways
        self._entries = entries
        self._health = health
        self._observer = observer
        self._now_s = ways.clock.now_s

    async def answer(self, request: Request, route: Route, limits: WalkLimits) -> Answer:
        """The first answer that the chain gives.

        Raises:
            NoHealthyProviderError: if no entry answered; DeadlineError if the walk's time ran out.
            ProviderError: one that ends the walk: a direct model's own rate limit, or a request that no other
                entry should see.
        """
        walk = Walk(request, route, self._now_s() + limits.total_s)
        for target in route.chain:
            if walk.left:
                self._observer.fallback(walk.left[0].label, target.label, walk.left[1])
            answer = await self._try(walk, target, limits)
            if answer:
                answer.attempts = walk.asked
                answer.waited_s += walk.waited_s
                return answer
            if self._now_s() >= walk.deadline_s - TIMER_SLACK_S:
                raise _counted(walk, DeadlineError(route.asked, walk.attempts))
        raise _counted(walk, _exhausted(walk))

    async def _try(self, walk: Walk, target: Target, limits: WalkLimits) -> Answer | None:
        """Ask one entry; None if it was skipped or failed in a way that lets the walk go on."""
        entry = self._entries[target.provider]
        if entry.provider is None:
            walk.leave(target, "unconfigured", entry.hint)
            return None
        permit = self._health.take(entry.name)
        if not permit:
            walk.leave(target, "cache-unhealthy", "resting after failures")
            walk.resting.append(self._health.rest(entry.name))
            return None
        task = Task(walk.request, target, self._limits(walk, entry, limits))
        try:
            answer = await attempt(self._ways, entry.provider, task)
        except ProviderError as error:
            walk.count(task, error)
            walk.waited_s += self._now_s() - task.asked_s if task.asked_s else 0.0
            self._failed(task, error, permit)
            walk.errors.append(error)
            if not error.walks_on:
                raise
            walk.leave(target, error.reason, error.detail)
            return None
        except BaseException as error:
            # The client left, or asked for what cannot be encoded, or our own fault: nothing about the provider.
            walk.count(task, error)
            self._health.give_back(entry.name, permit)
            if task.asked_s:
                left = isinstance(error, asyncio.CancelledError)
                self._observer.attempt_ended(target, "cancelled" if left else type(error).__name__)
            raise
        walk.asked += 1
        self._succeeded(target, answer, permit)
        return answer

    def _limits(self, walk: Walk, entry: ProviderEntry, limits: WalkLimits) -> Limits:
        left_s = max(walk.deadline_s - self._now_s(), MIN_ATTEMPT_S)
        first_s = entry.first_s if walk.request.stream else limits.first_plain_s
        return Limits(limits.connect_s, first_s, limits.idle_s, left_s)

    def _succeeded(self, target: Target, answer: Answer, permit: int) -> None:
        self._health.mark_healthy(target.provider, permit)
        self._observer.attempt_ended(target, "ok")
        if answer.stream:
            answer.stream.on_failure = lambda error: self._broke(target, error)

    def _failed(self, task: Task, error: ProviderError, permit: int) -> None:
        target = task.target
        error.provider = target.provider
        if isinstance(error, ProviderTimeoutError) and task.limits.total_s < task.limits.connect_s:
            # It was given only what others had left of the walk's time: too little to be judged by.
            self._health.give_back(target.provider, permit)
        else:
            self._health.mark_unhealthy(target.provider, error, permit)
        if task.asked_s:
            self._observer.attempt_ended(target, error.reason)

    def _broke(self, target: Target, error: ProviderError) -> None:
        """A stream failed after its content had begun: the provider's health hears of it."""
        error.provider = target.provider
        self._health.mark_unhealthy(target.provider, error)
        self._observer.stream_broke(target, error.reason)


def _exhausted(walk: Walk) -> GatewayError:
    """What the client is told when nobody answered: a direct model's 429 is its own, all else a 503."""
    said = [*walk.errors, *walk.resting]
    waits = [error.retry_after_s for error in said if error.retry_after_s is not None]
    if walk.route.alias is None and said and said[0].status == RATE_LIMITED:
        return said[0]
    return NoHealthyProviderError(walk.route.asked, walk.attempts, min(waits) if waits else None)


def _counted(walk: Walk, error: GatewayError) -> GatewayError:
    """The error, knowing how many providers were asked."""
    error.asked = walk.asked
    return error
