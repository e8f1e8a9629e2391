"""Health, requests and probes in every order, beside a plain reference that keeps the whole story and looks it up."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mana_llm.routing.health import HealthPolicy, ProviderHealthCache
from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderConnectError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderTimeoutError,
)
from tests.routing.test_health import WALL_S, Clock

FAILURES_MAX = 2
BACKOFF_S = 60.0
ERRORS = {
    "connect": lambda: ProviderConnectError("no"),
    "time-out": lambda: ProviderTimeoutError("late"),
    "500": lambda: ProviderServerError("500"),
    "429": lambda: ProviderRateLimitError("later"),
    "429 for 30 s": lambda: ProviderRateLimitError("later", retry_after_s=30.0),
    "quota": lambda: ProviderQuotaError("no money"),
    "key": lambda: ProviderAuthError("key"),
}
RESTS_S = {"429 for 30 s": 30.0, "quota": 600.0}
"""Those that begin a rest at once, however many failures there were."""


class Reference:
    """The story since the last success, one word per failure; everything else is worked out from it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.story: list[str] = []
        self.ends_s: float | None = None
        self.trial: int | None = None
        self.news = 0
        self.success_s: float | None = None
        self.heard: list[bool] = []
        self.rested: list[float] = []
        self.broke = False
        self.doubt_ends_s = 0.0

    @property
    def rests(self) -> bool:
        return self.ends_s is not None and self.now_s < self.ends_s

    @property
    def state(self) -> str:
        return "healthy" if self.ends_s is None else "tripped" if self.rests else "probing"

    def success(self) -> None:
        if self.ends_s is not None:
            self.heard.append(True)
        self.story, self.ends_s, self.trial = [], None, None
        self.broke, self.doubt_ends_s = False, 0.0
        self.success_s = self.now_s
        self.news += 1

    def failure(self, word: str, *, was_trial: bool) -> None:
        self.news += 1
        self.story.append(word)
        before = self.ends_s
        rest_s = RESTS_S.get(word)
        if rest_s is None and (was_trial or (len(self.story) >= FAILURES_MAX and not self.rests)):
            rest_s = BACKOFF_S
        if rest_s is not None:
            self.ends_s = max(before or 0.0, self.now_s + rest_s)
        if before is None and self.ends_s is not None:
            self.heard.append(False)
        if self.ends_s is not None and self.ends_s > (before or 0.0):
            self.rested.append(self.now_s)

    def probe(self, word: str | None, seen: int) -> None:
        if seen != self.news:
            return
        if word is None:
            if set(self.story) <= {"connect", "probe"}:
                self.success()
        else:
            self.failure("probe", was_trial=False)


class Model(RuleBasedStateMachine):
    """Any number of requests and probes under way, ending in any order and in any way, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = ProviderHealthCache(("a",), HealthPolicy(FAILURES_MAX, BACKOFF_S, lambda: 1.0), self.clock)
        self.plain = Reference()
        self.heard: list[bool] = []
        self.cache.add_listener(lambda _, healthy: self.heard.append(healthy))
        self.rested: list[float] = []
        self.cache.add_rest_listener(lambda _: self.rested.append(self.clock.at_s))
        self.requests: list[int] = []
        self.streams: list[tuple[int, bool]] = []
        self.probes: list[tuple[int, int]] = []

    @rule(seconds=st.sampled_from([0.5, 29.5, 60.0, 600.0]), jump_s=st.sampled_from([0.0, 3600.0, -3600.0]))
    def time_passes(self, seconds: float, jump_s: float) -> None:
        self.clock.at_s += seconds
        self.clock.jump_s += jump_s
        self.plain.now_s += seconds

    @rule()
    def request_asks(self) -> None:
        permit = self.cache.take("a")
        free = self.plain.ends_s is None or (not self.plain.rests and self.plain.trial is None)
        assert bool(permit) is free
        if permit:
            self.requests.append(permit)
            if self.plain.ends_s is not None:
                self.plain.trial = permit

    @precondition(lambda self: self.requests)
    @rule(which=st.integers(0, 1 << 16), how=st.sampled_from(["answers", "leaves", *ERRORS]), retry=st.booleans())
    def request_ends(self, which: int, how: str, retry: bool) -> None:
        permit = self.requests.pop(which % len(self.requests))
        was_trial = permit == self.plain.trial
        if how == "answers":
            self.cache.mark_healthy("a", permit)
            # Begun before the rest, it says nothing about it.
            if self.plain.ends_s is None or was_trial:
                self.plain.success()
            return
        if was_trial:
            self.plain.trial = None
        if how == "leaves":
            self.cache.give_back("a", permit)
            return
        self.cache.mark_unhealthy("a", ERRORS[how](), permit)
        if how != "key":
            self.plain.failure(how, was_trial=was_trial)
            if retry:
                self.cache.retry_failed("a")
                self.plain.doubt_ends_s = self.plain.now_s + BACKOFF_S

    @precondition(lambda self: self.requests)
    @rule(which=st.integers(0, 1 << 16))
    def content_begins(self, which: int) -> None:
        permit = self.requests.pop(which % len(self.requests))
        judged = self.cache.content_began("a", permit)
        assert judged is not self.plain.broke
        # Begun before the rest, it says nothing about it.
        if judged and (self.plain.ends_s is None or permit == self.plain.trial):
            self.plain.success()
        self.streams.append((permit, judged))

    @precondition(lambda self: self.streams)
    @rule(which=st.integers(0, 1 << 16), how=st.sampled_from(["ends", "leaves", "500", "429 for 30 s", "key"]))
    def stream_ends(self, which: int, how: str) -> None:
        permit, judged = self.streams.pop(which % len(self.streams))
        was_trial = permit == self.plain.trial
        if how == "ends":
            self.cache.stream_ended("a", permit, judged=judged)
            if (not judged or self.plain.broke) and (self.plain.ends_s is None or was_trial):
                self.plain.success()
            return
        if was_trial:
            self.plain.trial = None
        if how == "leaves":
            self.cache.give_back("a", permit)
            return
        self.cache.stream_broke("a", ERRORS[how](), permit)
        if how != "key":
            self.plain.broke = True
            self.plain.failure(how, was_trial=was_trial)

    @rule()
    def probe_begins(self) -> None:
        self.probes.append((self.cache.moment("a"), self.plain.news))

    @precondition(lambda self: self.probes)
    @rule(which=st.integers(0, 1 << 16), word=st.sampled_from([None, *RESTS_S, "time-out", "connect"]))
    def probe_ends(self, which: int, word: str | None) -> None:
        seen, news = self.probes.pop(which % len(self.probes))
        if word is None:
            self.cache.probe_succeeded("a", seen)
        else:
            self.cache.probe_failed("a", ERRORS[word](), seen)
        self.plain.probe(word, news)

    @invariant()
    def agrees(self) -> None:
        told = self.cache.told("a")
        assert told.state == self.plain.state
        assert told.consecutive_failures == len(self.plain.story)
        assert (told.last_error is None) is (not self.plain.story)
        doubted = self.plain.ends_s is not None or self.plain.now_s < self.plain.doubt_ends_s
        assert self.cache.in_doubt("a") is doubted
        assert self.heard == self.plain.heard
        assert self.rested == self.plain.rested
        ahead_s = WALL_S + self.clock.jump_s
        assert told.unhealthy_until == (ahead_s + self.plain.ends_s if self.plain.rests else None)
        success_s = self.plain.success_s
        assert told.last_success_at == (None if success_s is None else ahead_s + success_s)


TestHealthAgreesWithItsReference = Model.TestCase
TestHealthAgreesWithItsReference.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.long
class TestHealthAgreesWithItsReferenceForLong(Model.TestCase):
    """Fifty thousand steps of the same."""

    settings = settings(max_examples=1_000, stateful_step_count=50, deadline=None)
