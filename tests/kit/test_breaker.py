"""A provider's health as a state machine, beside a plain model of what it promises."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mana_llm.kit.breaker import GRANTED, REFUSED, Breaker

BACKOFF_S = 60.0


def tripped(failures_max: int = 2) -> Breaker:
    breaker = Breaker(failures_max)
    for _ in range(failures_max):
        breaker.fail(breaker.take(0.0), 0.0, BACKOFF_S)
    return breaker


def test_first_failures_are_forgiven_when_success_follows():
    """One failure less than too many changes nothing, and a success forgets it."""
    breaker = Breaker(3)
    for _ in range(5):
        breaker.fail(breaker.take(0.0), 0.0, BACKOFF_S)
        breaker.fail(breaker.take(0.0), 0.0, BACKOFF_S)
        assert breaker.state(0.0) == "healthy"
        breaker.succeed(0.0)
    assert breaker.failures == 0


def test_state_goes_round_when_time_passes():
    """Healthy, tripped until the back-off has passed, probing, and healthy again by the trial's success."""
    breaker = tripped()
    assert breaker.state(59.9) == "tripped"
    assert breaker.take(59.9) == REFUSED
    assert breaker.state(60.0) == "probing"
    assert breaker.take(60.0)
    breaker.succeed(60.0)
    assert breaker.state(60.0) == "healthy"


def test_exactly_one_of_a_thousand_goes_when_it_is_half_open():
    """While probing, one request is let through and all the others pass by."""
    breaker = tripped()
    assert sum(bool(breaker.take(61.0)) for _ in range(1000)) == 1
    assert not breaker.admits(61.0)


def test_trial_trips_anew_when_it_fails():
    """The trial's failure re-arms the back-off from now, however many failures are forgiven."""
    breaker = Breaker(5)
    breaker.park(breaker.take(0.0), 10.0)
    breaker.fail(breaker.take(10.0), 12.0, BACKOFF_S)
    assert breaker.until_s == 72.0
    assert not breaker.admits(71.9)


def test_permit_is_free_again_when_the_trial_ends_without_a_verdict():
    """A trial whose client left gives its permit back; the state stays probing."""
    breaker = tripped()
    breaker.back(breaker.take(60.0))
    assert breaker.state(60.0) == "probing"
    assert breaker.take(60.0)


def test_trial_goes_on_when_an_old_request_ends():
    """A request from before the trip, given up or failed late, does not free the trial's permit."""
    breaker = Breaker(2)
    old = breaker.take(0.0)
    breaker.fail(breaker.take(0.0), 0.0, BACKOFF_S)
    breaker.fail(breaker.take(0.0), 0.0, BACKOFF_S)
    assert breaker.take(60.0)
    breaker.back(old)
    assert breaker.take(60.0) == REFUSED
    breaker.fail(old, 61.0, BACKOFF_S)
    assert breaker.until_s == 121.0
    assert breaker.take(200.0) == REFUSED


def test_shorter_park_changes_nothing_when_a_longer_one_runs():
    """The later end of two back-offs counts."""
    breaker = Breaker(2)
    breaker.park(breaker.take(0.0), 600.0)
    breaker.park(1, 5.0)
    assert breaker.until_s == 600.0


def test_back_off_stays_as_it_is_when_more_failures_come_during_it():
    """Requests that were under way when it tripped fail, too: they are counted, and lengthen nothing."""
    breaker = tripped()
    breaker.fail(GRANTED, 30.0, BACKOFF_S)
    assert breaker.failures == 3
    assert breaker.until_s == 60.0
    breaker.fail(GRANTED, 60.0, BACKOFF_S)
    assert breaker.until_s == 120.0


def test_breaker_is_curable_when_every_failure_since_the_last_success_was():
    """One failure of another kind, a park included, is enough; a success makes it curable again."""
    breaker = Breaker(2)
    breaker.fail(GRANTED, 0.0, BACKOFF_S, curable=True)
    assert breaker.curable
    breaker.fail(GRANTED, 0.0, BACKOFF_S)
    breaker.fail(GRANTED, 0.0, BACKOFF_S, curable=True)
    assert not breaker.curable
    breaker.succeed(1.0)
    assert breaker.curable
    breaker.park(GRANTED, 5.0)
    assert not breaker.curable


def test_verdicts_are_numbered_when_anything_is_learnt():
    """A success, a failure and a park each make one verdict more; a permit that comes back makes none."""
    breaker = Breaker(2)
    breaker.succeed(0.0)
    breaker.fail(GRANTED, 0.0, BACKOFF_S)
    breaker.park(GRANTED, 5.0)
    assert breaker.verdicts == 3
    breaker.back(breaker.take(6.0))
    assert breaker.verdicts == 3


def test_break_and_doubt_are_forgotten_when_something_succeeds():
    """A success ends both what streams and what retries are doubted for."""
    breaker = Breaker(2, broken=True, doubted_until_s=60.0)
    breaker.fail(GRANTED, 0.0, BACKOFF_S)
    assert (breaker.broken, breaker.doubted_until_s) == (True, 60.0)
    breaker.succeed(1.0)
    assert (breaker.broken, breaker.doubted_until_s) == (False, 0.0)


class Model(RuleBasedStateMachine):
    """Any number of requests under way, ending in any order and in any way, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(2)
        self.now_s = 0.0
        self.out: list[int] = []
        # The model: failures in a row, the end of the back-off, and which of `out` is the trial.
        self.failures = 0
        self.until_s = 0.0
        self.trial: int | None = None

    @rule(seconds=st.sampled_from([0.5, 30.0, 60.0, 600.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def asks(self) -> None:
        permit = self.breaker.take(self.now_s)
        if not self.until_s:
            assert permit
        elif self.now_s < self.until_s or self.trial is not None:
            assert not permit
        else:
            assert permit
            self.trial = permit
        if permit:
            self.out.append(permit)

    @precondition(lambda self: self.out)
    @rule(choice=st.randoms(use_true_random=False), how=st.sampled_from(["succeeds", "fails", "parks", "leaves"]))
    def ends(self, choice, how: str) -> None:
        permit = self.out.pop(choice.randrange(len(self.out)))
        was_trial = permit == self.trial
        if how == "succeeds":
            self.breaker.succeed(self.now_s)
            self.failures, self.until_s, self.trial = 0, 0.0, None
            return
        if was_trial:
            self.trial = None
        if how == "leaves":
            self.breaker.back(permit)
        elif how == "fails":
            self.breaker.fail(permit, self.now_s, BACKOFF_S)
            self.failures += 1
            if was_trial or (self.failures >= 2 and self.until_s <= self.now_s):
                self.until_s = max(self.until_s, self.now_s + BACKOFF_S)
        else:
            self.breaker.park(permit, self.now_s + 600.0)
            self.failures += 1
            self.until_s = max(self.until_s, self.now_s + 600.0)

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.until_s == self.until_s
        assert self.breaker.failures == self.failures
        assert (self.breaker.trial or None) == self.trial
        free = not self.until_s or (self.now_s >= self.until_s and self.trial is None)
        assert self.breaker.admits(self.now_s) is free


TestBreakerAgreesWithItsModel = Model.TestCase
TestBreakerAgreesWithItsModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
