"""The walk, health, places, hedges and budgets together, against a plain reference, one event after the other."""

from typing import Any

import pytest
from hypothesis import settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from mana_llm.routing.answer import Answer
from mana_llm.schema.errors import NoHealthyProviderError
from mana_llm.schema.targets import Policy, Route, target_of
from tests.routing.walk_reference import Reference, Walk, Walker, story
from tests.routing.walk_world import BACKOFF_S, ERRORS, FAILURES_MAX, SEATS, RealWorld, Running, refusal

WALKS_MAX = 20
TICK_S = 0.001
"""Between any two events, so that no two limits that began apart end at the same instant."""
ENTRIES = [target_of(provider, model) for provider in SEATS for model in "mn"]
CHAINS = st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=4, unique=True).map(tuple)
POLICIES = st.builds(
    Policy,
    ttft_s=st.sampled_from((None, None, 3.11)),
    total_s=st.sampled_from((None, None, 4.77)),
    hedge_after_s=st.sampled_from((None, None, 0.57)),
    on_incapable=st.sampled_from(("error", "skip")),
    fallback_on=st.sampled_from((frozenset(), frozenset(("ProviderAuthError", "ProviderCapabilityError")))),
)
WHICH = st.integers(0, 1 << 10)
REFUSED = st.sampled_from((None, None, None, "unable", "unfit", "bug"))


class Model(stateful.RuleBasedStateMachine):
    """Any number of requests under way; whatever happens to one of them, the others are where they were."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.real = RealWorld()
        self.plain = Reference()
        self.running: dict[int, tuple[Running, Walk]] = {}
        self.held: dict[int, Answer] = {}
        self.probes: list[tuple[str, int, int]] = []
        self.count = 0

    def teardown(self) -> None:
        """Every client leaves, and nothing is left of them."""
        while self.running:
            # Whoever is seated by that may come to an end by itself.
            self.leave(next(iter(self.running)))
        while self.held:
            self.close(next(iter(self.held)))
        assert not self.real.upstreams.calls
        assert not self.real.upstreams.open
        for gate in self.real.admission.gates.values():
            assert (gate.in_flight, gate.waiting) == (0, 0)
        self.real.loop.close()

    def wait(self, seconds: float) -> None:
        """Let time pass, limit by limit."""
        until_s = self.plain.now_s + seconds
        while (at_s := self.plain.next_s()) <= until_s:
            self.real.loop.now = self.plain.now_s = at_s
            self.plain.times_out()
            self.settle()
        self.real.loop.now = self.plain.now_s = until_s

    def settle(self) -> None:
        self.real.settle()
        self.plain.settle()
        for number, (running, walk) in list(self.running.items()):
            assert running.task.done() is (walk.stage == "over")
            assert running.exchange.attempts == walk.asked
            exchange = running.exchange
            if walk.stage == "over":
                del self.running[number]
                # All of its time was spent on waiting for providers and for places, and no second of it twice.
                spent_s = exchange.waited_s + exchange.queued_s
                assert spent_s == pytest.approx(self.real.loop.now - exchange.began_s, abs=1e-6)
                self.ended(running, walk)
        self.plain.forget()

    def ended(self, running: Running, walk: Walk) -> None:
        """One walk's end, seen from both sides."""
        assert walk.result is not None
        result, retry_after_s = walk.result
        if running.task.cancelled():
            assert result == "CancelledError"
            return
        error = running.task.exception()
        if error is None:
            answer = running.task.result()
            assert answer.target.label == result
            if answer.stream:
                self.held[walk.number] = answer
            return
        assert type(error).__name__ == result
        if isinstance(error, NoHealthyProviderError):
            assert walk.told is not None
            rows, told = story(error), walk.told.rows
            # One row for every entry.
            assert sorted(label for label, _ in rows) == sorted(target.label for target in walk.chain)
            assert error.in_vain is walk.told.in_vain
            if not walk.policy.hedge_after_s:
                assert rows == told
            elif result == "DeadlineError":
                # Two walks end at one instant: which of them is the first to say so is the loop's own choice.
                assert all(row in told or "deadline" in (row[1], dict(told)[row[0]]) for row in rows)
                return
            else:
                assert sorted(rows) == sorted(told)
            assert error.retry_after_s == pytest.approx(retry_after_s)

    @precondition(lambda self: len(self.running) < WALKS_MAX)
    @rule(
        chain=CHAINS,
        policy=POLICIES,
        client_s=st.sampled_from((None, 2.39, 15.0)),
        how=st.tuples(st.booleans(), st.booleans()),
        refused=REFUSED,
    )
    def request_comes(self, chain: Any, policy: Policy, client_s: float | None, how: Any, refused: str | None) -> None:
        self.wait(TICK_S)
        self.count += 1
        if len(chain) == 1:
            policy = Policy()
        stream, needs = how
        walk = Walk(self.count, chain, policy, stream=stream, needs=needs)
        if refused:
            walk.refused[chain[-1].label] = refused
            self.real.refusals[self.count, chain[-1].label] = refusal(refused)
        route = Route("asked", chain, "mana/any" if walk.alias else None, "1", policy)
        self.running[self.count] = (
            self.real.begin(self.count, route, client_s, stream=stream, needs=needs),
            walk,
        )
        self.plain.begin(walk, client_s)
        self.settle()

    @precondition(lambda self: self.plain.asking())
    @rule(which=WHICH, how=st.sampled_from(["ok", "ok", "ok", *ERRORS]))
    def call_ends(self, which: int, how: str) -> None:
        self.wait(TICK_S)
        asking = self.plain.asking()
        if not asking:
            return
        walker: Walker = asking[which % len(asking)]
        assert walker.target is not None
        (call,) = [
            call
            for call in self.real.upstreams.calls
            if (call.request, call.label) == (walker.walk.number, walker.target.label)
        ]
        call.outcome.set_result(None if how == "ok" else ERRORS[how]())
        self.plain.call_ends(walker, how)
        self.settle()

    @precondition(lambda self: self.running)
    @rule(which=WHICH)
    def client_leaves(self, which: int) -> None:
        self.wait(TICK_S)
        if self.running:
            self.leave(list(self.running)[which % len(self.running)])

    def leave(self, number: int) -> None:
        running, walk = self.running[number]
        running.task.cancel()
        self.plain.leaves(walk)
        self.settle()

    @rule(
        entry=st.sampled_from([each for each in ENTRIES if each.provider != "gone"]),
        rests_s=st.sampled_from((0.0, 20.0)),
    )
    def stream_breaks(self, entry: Any, rests_s: float) -> None:
        """Somebody's stream begins well and breaks, if it comes to begin; the next request may find the traces."""
        self.request_comes((entry,), Policy(), None, (True, False), None)
        for number, walker in enumerate(self.plain.asking()):
            if walker.walk.number == self.count:
                self.call_ends(number, "ok")
        if self.count in self.held:
            self.stream_ends(list(self.held).index(self.count), "protocol")
        self.wait(rests_s)

    @precondition(lambda self: self.held)
    @rule(which=WHICH, how=st.sampled_from(["end", "client", "500", "protocol", "429 for 30 s"]))
    def stream_ends(self, which: int, how: str) -> None:
        self.wait(TICK_S)
        number = list(self.held)[which % len(self.held)]
        stream = self.held[number].stream
        assert stream is not None
        if how == "client":
            self.close(number)
            return
        self.real.do(stream.read())
        if how == "end":
            assert self.real.do(stream.read()) == []
            self.close(number, how)
            return
        (said,) = [said for said in self.real.upstreams.open if said.request == number]
        said.fate = ERRORS[how]()
        with pytest.raises(type(said.fate)):
            self.real.do(stream.read())
        self.close(number, how)

    def close(self, number: int, how: str = "client") -> None:
        self.held.pop(number).close()
        self.plain.closes(number, how)
        self.settle()

    @rule(seconds=st.sampled_from((0.5, 1.0, 1.5, 3.0, 11.0, 20.0, 300.0)))
    def time_passes(self, seconds: float) -> None:
        self.wait(seconds)

    @rule(provider=st.sampled_from([name for name in SEATS if name != "gone"]))
    def probe_begins(self, provider: str) -> None:
        self.probes.append((provider, self.real.health.moment(provider), self.plain.places[provider].news))

    @rule(
        provider=st.sampled_from([name for name in SEATS if name != "gone"]), rests_s=st.sampled_from((0.0, BACKOFF_S))
    )
    def provider_goes(self, provider: str, rests_s: float) -> None:
        """Its probes fail until it is out, whatever it is still busy with; perhaps until it may be tried again."""
        for _ in range(FAILURES_MAX):
            self.probe_begins(provider)
            self.probe_ends(len(self.probes) - 1, "500")
        self.wait(rests_s)

    @precondition(lambda self: self.probes)
    @rule(which=WHICH, word=st.sampled_from([None, None, "connect", "500", "429 for 30 s"]))
    def probe_ends(self, which: int, word: str | None) -> None:
        provider, seen, news = self.probes.pop(which % len(self.probes))
        if word is None:
            self.real.health.probe_succeeded(provider, seen)
        else:
            self.real.health.probe_failed(provider, ERRORS[word](), seen)
        self.plain.places[provider].probed(news, word, self.plain.now_s)
        self.settle()

    @invariant()
    def agrees(self) -> None:
        real, plain = self.real, self.plain
        asking = plain.asking()
        assert sorted((call.request, call.label) for call in real.upstreams.calls) == sorted(
            (walker.walk.number, walker.target.label) for walker in asking if walker.target
        )
        for name, place in plain.places.items():
            told, gate, breaker = real.health.told(name), real.admission.gates[name], real.health._breakers[name]
            assert told.state == place.state(plain.now_s)
            assert told.consecutive_failures == len(place.story)
            assert told.last_error == (place.last if place.story else None)
            assert breaker.until_s == pytest.approx(place.ends_s or 0.0, abs=1e-6)
            assert bool(breaker.trial) is (place.trial is not None)
            sitting = sum(walker.target.provider == name for walker in asking if walker.target)
            assert breaker.broken is place.broke
            assert real.health.in_doubt(name) is place.in_doubt(plain.now_s)
            streams = sum(flow.label.startswith(f"{name}/") for flow in plain.open.values())
            assert gate.in_flight == place.taken == sitting + streams
            assert gate.waiting == len(place.queue)
            assert real.router._retries._running[name] == place.retries
        assert real.router._hedges._saved == pytest.approx(plain.saved)
        assert sorted(real.observer.attempts) == sorted(plain.told)
        assert real.observer.hedges == plain.hedges

    @invariant()
    def promises_hold(self) -> None:
        """What must be so whatever the reference thinks."""
        Model.steps += 1
        upstreams = self.real.upstreams
        tries = [(request, label) for request, label, _ in upstreams.asked]
        assert len(tries) == len(set(tries))
        for running, walk in self.running.values():
            assert not running.task.done()
            assert self.real.loop.now < walk.deadline_s + TICK_S
        for name, seats in SEATS.items():
            assert not seats or self.real.admission.gates[name].in_flight <= seats
            trials = [walker for walker in self.plain.asking() if walker.trial and walker.target.provider == name]
            assert self.plain.places[name].ends_s is None or len(trials) <= 1


def run(examples: int, steps: int) -> int:
    """Run the machine; gives how many steps it took."""
    Model.steps = 0
    chosen = settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    stateful.run_state_machine_as_test(Model, settings=chosen)
    return Model.steps


def test_walk_agrees_with_its_reference_when_anything_happens():
    """R27 (3,000 of 200,000): walks, health (R19 too), places, hedges and budgets never differ from a plain reference,
    whatever happens to whom and when.
    """
    assert run(100, 50) >= 3_000


@pytest.mark.long
def test_walk_agrees_with_its_reference_when_the_run_is_long():
    """R27 (200,000 of 200,000): walks, health (R19 too), places, hedges and budgets never differ from a plain
    reference, whatever happens to whom and when.
    """
    assert run(2_300, 100) >= 200_000
