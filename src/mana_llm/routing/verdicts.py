"""What is learnt from an attempt: by the provider's health, by the walk, and by whoever observes."""

import asyncio
from collections.abc import Mapping

from mana_llm.ports import Clock, Observer
from mana_llm.routing.admission import Gate
from mana_llm.routing.answer import Answer, LiveStream
from mana_llm.routing.attempt import Task
from mana_llm.routing.health import ProviderHealthCache
from mana_llm.routing.preparation import TIMER_SLACK_S
from mana_llm.routing.walk import Walk
from mana_llm.schema.errors import ProviderError, ProviderTimeoutError
from mana_llm.schema.targets import Target


class Verdicts:
    """Gives every permit back with a verdict, or without one; a stream's when it has come to its end."""

    def __init__(
        self, health: ProviderHealthCache, gates: Mapping[str, Gate], observer: Observer, clock: Clock
    ) -> None:
        self._health = health
        self._gates = gates
        self._observer = observer
        self._now_s = clock.now_s

    def succeeded(self, walk: Walk, task: Task, answer: Answer, permit: int) -> None:
        target = task.target
        walk.waited(task, task.waited_s)
        self._observer.attempt_ended(target, "ok")
        if task.answered:
            self._earlier(task)
        if answer.stream:
            self._flows(walk, target, answer.stream, permit)
        else:
            self._health.mark_healthy(target.provider, permit)

    def _flows(self, walk: Walk, target: Target, stream: LiveStream, permit: int) -> None:
        """A stream has begun: what becomes of it is for its provider's health, and its place is given back then."""
        gate, health, name = self._gates[target.provider], self._health, target.provider
        judged, until_s = health.content_began(name, permit), walk.deadline_s + walk.more_s - TIMER_SLACK_S
        gate.flow()

        def broke(error: ProviderError) -> None:
            error.provider = name
            # Unless it was the walk's own time that ended it while it flowed.
            if not (isinstance(error, ProviderTimeoutError) and self._now_s() >= until_s):
                health.stream_broke(name, error, permit)
            self._observer.stream_broke(target, error.reason)

        def closed(whole: bool) -> None:  # noqa: FBT001 - told by the stream, which has one thing to tell
            if whole:
                health.stream_ended(name, permit, judged=judged)
            elif not judged:
                health.give_back(name, permit)
            gate.leave_flow()

        stream.on_failure, stream.on_close = broke, closed

    def failed(self, walk: Walk, task: Task, error: ProviderError, permit: int) -> bool:
        """Whether it is the provider that has failed."""
        target, now_s = task.target, self._now_s()
        error.provider = target.provider
        judged = not isinstance(error, ProviderTimeoutError) or self._had_its_time(walk, task, now_s)
        if judged:
            self._health.mark_unhealthy(target.provider, error, permit)
        else:
            self._health.give_back(target.provider, permit)
        if task.asked_s:
            self._spent(walk, task, error.reason)
        return judged and error.health != "none"

    def abandoned(self, walk: Walk, task: Task, error: BaseException, permit: int) -> None:
        """The client left or another answered first, or it asked for what cannot be encoded, or it is our own fault:
        nothing about the provider.
        """
        self._health.give_back(task.target.provider, permit)
        if task.asked_s:
            left = isinstance(error, asyncio.CancelledError)
            self._spent(walk, task, "cancelled" if left else type(error).__name__)

    def _spent(self, walk: Walk, task: Task, status: str) -> None:
        """Account for a provider that was asked and gave no answer."""
        walk.waited(task, self._now_s() - task.asked_s)
        self._observer.attempt_ended(task.target, status)
        self._earlier(task)

    def _earlier(self, task: Task) -> None:
        """The calls before the last: they went well, or there would have been no other."""
        for _ in range(task.answered):
            self._observer.attempt_ended(task.target, "ok")

    def _had_its_time(self, walk: Walk, task: Task, now_s: float) -> bool:
        """Whether a provider that was too slow can be judged by it: always if a limit of its own ran out, but not if
        the walk's time did, of which others, or an impatient client, had left it less than the gateway itself gives;
        nor if the wait for a place had, while it spoke to others.
        """
        if now_s >= walk.deadline_s - TIMER_SLACK_S:
            return walk.patient and task.limits.total_s >= task.limits.connect_s
        if not walk.placed_s or not walk.first_s:
            return True
        came_s, name = task.asked_s - walk.placed_s, task.target.provider
        return not (self._gates[name].flowed_since(came_s) or self._health.succeeded_since(name, came_s))
