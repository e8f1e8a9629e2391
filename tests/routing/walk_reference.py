"""The walk, health and places in plain words: lists that are searched, and a story per provider that is looked up.

What happens at one instant happens one after the other: `events` holds what is still to come, each with the number of
turns of the loop until it does, because a task that is woken, a seat that is handed over and a race that is decided
take one, or two, or three.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from mana_llm.schema.targets import Policy, Target
from tests.routing.walk_world import (
    BACKOFF_S,
    CONNECT_S,
    ERRORS,
    FAILURES_MAX,
    LACKING,
    QUEUE_S,
    SEATS,
    STREAM_FIRST_S,
    TOTAL_S,
    WAITING_MAX,
)

SLACK_S = 0.005
TOGETHER_S = 1e-9
"""Timers that are apart by less go off together: the loop's own resolution."""
CLASSES = {word: type(make()).__name__ for word, make in ERRORS.items()} | {"late": "ProviderTimeoutError"}
ENDS_WALK = ("key", "unable")
SAYS_NOTHING = ("key", "unable", "tool call")
RESTS_S = {"429 for 30 s": 30.0, "quota": 600.0}
"""Those that begin a rest at once, however many failures there were."""
CURABLE = ("connect", "probe")
RATE_LIMITED = ("ProviderRateLimitError", "ProviderQuotaError")
REFUSALS = {"unable": "ProviderCapabilityError", "unfit": "RequestError", "bug": "ValueError"}


class Place:
    """A provider: who sits there, who waits, and the words of its failures since the last success."""

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.taken = 0
        self.queue: list[Walker] = []
        self.since_s: list[float] = []
        self.hold_s = 0.0
        self.story: list[str] = []
        self.last = ""
        self.ends_s: float | None = None
        self.trial: Walker | None = None
        self.news = 0
        self.retries = 0
        self.broke = False
        self.doubt_ends_s = self.success_s = self.flowed_s = 0.0
        self.begins_to_rest: Callable[[Place], None] = lambda _: None

    def admits(self, now_s: float) -> bool:
        return self.ends_s is None or (now_s >= self.ends_s and self.trial is None)

    def state(self, now_s: float) -> str:
        return "healthy" if self.ends_s is None else "tripped" if now_s < self.ends_s else "probing"

    def full(self) -> bool:
        return bool(self.seats) and self.taken >= self.seats

    def expected_s(self, now_s: float) -> float:
        if not self.full():
            return 0.0
        return (len(self.queue) + 1) * max(self.hold_s, now_s - self.since_s[-1]) / self.seats

    def in_doubt(self, now_s: float) -> bool:
        return self.ends_s is not None or now_s < self.doubt_ends_s

    def success(self, now_s: float) -> None:
        self.news += 1
        self.story, self.ends_s, self.trial = [], None, None
        self.broke, self.doubt_ends_s, self.success_s = False, 0.0, now_s

    def failure(self, word: str, now_s: float, *, was_trial: bool = False, last: str = "") -> None:
        self.news += 1
        self.story.append(word)
        self.last = last or CLASSES[word]
        rest_s = RESTS_S.get(word)
        if rest_s is None and (was_trial or (len(self.story) >= FAILURES_MAX and self.state(now_s) != "tripped")):
            rest_s = BACKOFF_S
        if rest_s is not None and now_s + rest_s > (self.ends_s or 0.0):
            self.ends_s = now_s + rest_s
            self.begins_to_rest(self)

    def probed(self, seen: int, word: str | None, now_s: float) -> None:
        if seen != self.news:
            return
        if word:
            self.failure("probe", now_s, last=CLASSES[word])
        elif all(each in CURABLE for each in self.story):
            self.success(now_s)


class Walker:
    """One of a walk's ways along the chain: `new`, `queued`, `granted` (a seat is its own, it has not sat down yet),
    `turned away` (and has not noticed yet), `asking`, or `over`: with an answer's label, an error's name or neither.
    """

    def __init__(self, walk: "Walk") -> None:
        self.walk = walk
        self.state = "new"
        self.target: Target | None = None
        self.began_s = self.until_s = 0.0
        self.look_s = float("inf")
        self.came_s = 0.0
        self.armed = 0
        self.outcome = ""
        self.trial = self.retry = self.second = self.queued = self.cancelled = False
        self.calls = 0
        self.answer: str | None = None
        self.error: str | None = None
        self.late: Told | None = None

    def due_s(self) -> float:
        """When it does something by itself."""
        if self.state == "queued":
            return min(self.until_s, self.look_s)
        return self.until_s if self.state == "asking" and not self.outcome else float("inf")


class Flow:
    """A stream that is held. `judged` says that its first content was its success."""

    def __init__(self, walker: Walker, label: str, *, judged: bool) -> None:
        self.walker, self.label, self.judged = walker, label, judged


class Told(NamedTuple):
    """What an error says: its rows, when to come again, and that it would be in vain."""

    rows: list[tuple[str, str]]
    wish_s: float | None
    in_vain: bool


class Walk:
    """One client request. `stage` is `alone`, `racing` (a hedge may come), `both`, `straight` (none came), `over`."""

    def __init__(self, number: int, chain: tuple[Target, ...], policy: Policy, *, stream: bool, needs: bool) -> None:
        self.number, self.chain, self.policy = number, chain, policy
        self.stream, self.needs = stream, needs
        self.alias = len(chain) > 1
        self.refused: dict[str, str] = {}
        self.deadline_s = 0.0
        self.patient = True
        self.position = 0
        self.rows: list[tuple[str, str]] = []
        self.said: list[tuple[str, float | None]] = []
        self.resting: list[tuple[str, float | None]] = []
        self.waits_s: list[float] = []
        self.asked = 0
        self.hedge_at: float | None = None
        self.hedge_armed = 0
        self.told: Told | None = None
        self.stage = "racing" if policy.hedge_after_s else "alone"
        self.walkers = [Walker(self)]
        self.result: tuple[str, float | None] | None = None

    def story(self) -> Told:
        """What there is to tell now of a walk that came to nothing."""
        said = [*self.said, *self.resting]
        waits_s = [wait_s for _, wait_s in said if wait_s is not None] + [max(wait_s, 1.0) for wait_s in self.waits_s]
        return Told(list(self.rows), min(waits_s, default=None), not self.waits_s)


class Reference:
    """Everything at once. `told` is what an observer hears of attempts, `open` the streams that are held."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.places = {name: Place(seats) for name, seats in SEATS.items()}
        for place in self.places.values():
            place.begins_to_rest = self.sends_away
        self.armed = 0
        self.walks: list[Walk] = []
        self.events: deque[tuple[int, Callable[[], None]]] = deque()
        self.saved = 1.0
        self.told: list[tuple[str, str]] = []
        self.hedges: list[str] = []
        self.open: dict[int, Flow] = {}

    # What the outside does.

    def begin(self, walk: Walk, client_s: float | None) -> None:
        total_s = walk.policy.total_s or TOTAL_S
        walk.patient = client_s is None or client_s >= total_s
        walk.deadline_s = self.now_s + (total_s if walk.patient or client_s is None else client_s)
        self.walks.append(walk)
        if walk.policy.hedge_after_s:
            self.saved = min(self.saved + 0.05, 5.0)
            walk.hedge_at = self.now_s + walk.policy.hedge_after_s
            walk.hedge_armed = self.arms()
        self.soon(2 if walk.hedge_at else 1, lambda: self.goes(walk.walkers[0]))

    def call_ends(self, walker: Walker, word: str) -> None:
        """`ok`, `late`, or the name of an error."""
        walker.outcome = word
        self.soon(1, lambda: self.ended(walker))

    def leaves(self, walk: Walk) -> None:
        """The client leaves."""
        walk.result = ("CancelledError", None)
        if walk.stage == "alone":
            self.cancel(walk.walkers[0])
        else:
            self.soon(1, lambda: self.decided(walk))

    def closes(self, number: int, how: str = "client") -> None:
        """A stream that is held comes to its `end`, is let go by its `client`, or breaks with an error."""
        flow = self.open.pop(number)
        place = self.places[flow.label.partition("/")[0]]
        was_trial = place.trial is flow.walker
        if was_trial:
            place.trial = None
        if how == "end":
            if (not flow.judged or place.broke) and (place.ends_s is None or was_trial):
                place.success(self.now_s)
        elif how != "client":
            place.broke = True
            place.failure(how, self.now_s, was_trial=was_trial)
        if place.seats:
            place.flowed_s = self.now_s
        self.frees(place)

    def arms(self) -> int:
        """Timers that are due together go off in the order in which they were set."""
        self.armed += 1
        return self.armed

    def next_s(self) -> float:
        """When something happens by itself."""
        walkers = [walker.due_s() for walk in self.walks for walker in walk.walkers]
        hedges = [walk.hedge_at for walk in self.walks if walk.hedge_at is not None and walk.stage == "racing"]
        return min([*walkers, *hedges], default=float("inf"))

    def times_out(self) -> None:
        """Whatever is due now."""
        due: list[tuple[float, int, Callable[[], None]]] = []
        until_s = self.now_s + TOGETHER_S
        for walk in self.walks:
            if walk.stage == "racing" and walk.hedge_at is not None and walk.hedge_at <= until_s:
                due.append((walk.hedge_at, walk.hedge_armed, lambda walk=walk: self.hedge_is_due(walk)))  # type: ignore[misc]
            due += [
                (walker.due_s(), walker.armed, lambda walker=walker: self.is_due(walker))  # type: ignore[misc]
                for walker in walk.walkers
                if walker.due_s() <= until_s
            ]
        for _, _, happen in sorted(due, key=lambda each: each[:2]):
            happen()

    def hedge_is_due(self, walk: Walk) -> None:
        walk.hedge_at = None
        self.soon(1, lambda: self.hedges_now(walk))

    def is_due(self, walker: Walker) -> None:
        if walker.state == "asking":
            self.call_ends(walker, "late")
        elif walker.until_s <= self.now_s + TOGETHER_S or self.elsewhere(walker.walk):
            self.places[walker.target.provider].queue.remove(walker)  # type: ignore[union-attr]
            self.turns_away(walker)
        else:
            walker.look_s, walker.armed = self.now_s + QUEUE_S, self.arms()

    def turns_away(self, walker: Walker) -> None:
        walker.state = "turned away"
        self.soon(1, lambda: self.turned_away(walker))

    def sends_away(self, place: Place) -> None:
        """A rest begins: nobody waits for a provider that rests."""
        queue, place.queue = place.queue, []
        for walker in queue:
            if not walker.cancelled:
                self.turns_away(walker)

    def settle(self) -> None:
        while self.events:
            turns, event = self.events.popleft()
            if turns > 1:
                self.events.append((turns - 1, event))
            else:
                event()

    def soon(self, turns: int, event: Callable[[], None]) -> None:
        self.events.append((turns, event))

    # What a walker does, each until it waits.

    def goes(self, walker: Walker) -> None:
        walk = walker.walk
        if walker.cancelled:
            self.over(walker, error="CancelledError")
            return
        while walk.position < len(walk.chain):
            walker.target = walk.chain[walk.position]
            walk.position += 1
            if self.tries(walker) or not self.goes_on(walker):
                return
        self.over(walker)

    def goes_on(self, walker: Walker) -> bool:
        """An entry was left behind: whether there is time for the next."""
        walk = walker.walk
        if self.now_s >= walk.deadline_s - SLACK_S:
            told = walk.story()
            reached = [label for label, _ in told.rows]
            rows = told.rows + [(target.label, "deadline") for target in walk.chain if target.label not in reached]
            walker.late = Told(rows, told.wish_s, told.in_vain and walk.asked > 0)
            self.over(walker, error="DeadlineError")
            return False
        return True

    def tries(self, walker: Walker) -> bool:
        """Come to an entry; False if it is left behind at once."""
        walk, target = walker.walk, walker.target
        assert target is not None
        place = self.places[target.provider]
        if target.provider == "gone":
            return self.left(walker, "unconfigured")
        if walk.policy.on_incapable == "skip" and walk.needs and target.label in LACKING:
            return self.left(walker, "capability")
        if not place.admits(self.now_s):
            return self.rests(walker, place)
        walker.queued = False
        if place.full():
            return self.queues(walker, place)
        place.taken += 1
        place.since_s.append(self.now_s)
        return self.asks(walker, place)

    def queues(self, walker: Walker, place: Place) -> bool:
        walk, first_s = walker.walk, walker.walk.policy.ttft_s
        wait_s = walk.deadline_s - self.now_s
        hopeless = first_s is not None and place.expected_s(self.now_s) > first_s
        if first_s is not None:
            wait_s = min(wait_s, first_s)
        if hopeless or len(place.queue) >= WAITING_MAX:
            walk.waits_s.append(place.expected_s(self.now_s))
            return self.left(walker, "saturated")
        place.queue.append(walker)
        walker.state, walker.until_s, walker.came_s = "queued", self.now_s + wait_s, self.now_s
        walker.queued, walker.look_s, walker.armed = True, self.now_s + QUEUE_S, self.arms()
        return True

    def elsewhere(self, walk: Walk) -> bool:
        """Whether a later entry could be asked now."""
        return any(self.usable(target) for target in walk.chain[walk.position :])

    def usable(self, target: Target) -> bool:
        place = self.places[target.provider]
        return target.provider != "gone" and place.admits(self.now_s) and not place.full()

    def turned_away(self, walker: Walker) -> None:
        if walker.cancelled:
            self.over(walker, error="CancelledError")
            return
        place = self.places[walker.target.provider]  # type: ignore[union-attr]
        if place.admits(self.now_s):
            self.saturated(walker, place)
        else:
            self.rests(walker, place)
        if self.goes_on(walker):
            self.goes(walker)

    def saturated(self, walker: Walker, place: Place) -> None:
        walker.walk.waits_s.append(place.expected_s(self.now_s))
        self.left(walker, "saturated")

    def seated(self, walker: Walker) -> None:
        """It was handed a seat, a moment ago."""
        place = self.places[walker.target.provider]  # type: ignore[union-attr]
        if walker.cancelled:
            place.since_s.pop()
            self.hands_on(place)
            self.over(walker, error="CancelledError")
            return
        first_s = walker.walk.policy.ttft_s
        if first_s and self.now_s - walker.came_s > first_s - SLACK_S:
            self.frees(place)
            self.saturated(walker, place)
        elif not place.admits(self.now_s):
            self.frees(place)
            self.rests(walker, place)
        elif self.asks(walker, place):
            return
        if self.goes_on(walker):
            self.goes(walker)

    def asks(self, walker: Walker, place: Place) -> bool:
        """On its seat: ask, unless there are too many retries or it cannot be written down."""
        walk, target = walker.walk, walker.target
        assert target is not None
        everybody = sum(other.taken for other in self.places.values())
        everywhere = sum(other.retries for other in self.places.values())
        walker.second = walk.asked > 0
        walker.retry = walker.second and place.in_doubt(self.now_s)
        if walker.retry and (place.retries >= max(3, 0.2 * place.taken) or everywhere >= max(3, 0.2 * everybody)):
            self.frees(place)
            walk.waits_s.append(1.0)
            return self.left(walker, "retry-budget")
        word = walk.refused.get(target.label)
        if word == "unable":
            walker.retry = False
            return self.refuses(walker, word, None, place)
        if word:
            self.frees(place)
            self.over(walker, error=REFUSALS[word])
            return True
        walker.trial = place.ends_s is not None
        if walker.trial:
            place.trial = walker
        place.retries += walker.retry
        walker.state, walker.began_s, walker.outcome = "asking", self.now_s, ""
        walker.armed = self.arms()
        walker.calls += 1
        walker.until_s = self.now_s + max(walk.deadline_s - self.now_s, 0.001)
        first_s = walk.policy.ttft_s or (STREAM_FIRST_S if walk.stream else None)
        if walk.policy.ttft_s and walker.queued:
            # What it waited for its place counts.
            first_s = max(walker.came_s + walk.policy.ttft_s - self.now_s, 0.001)
        if first_s is not None:
            walker.until_s = min(walker.until_s, self.now_s + first_s)
        return True

    def ended(self, walker: Walker) -> None:
        """Its call came to an end; or it was cancelled meanwhile, which then is how it ended."""
        walk, target, word = walker.walk, walker.target, walker.outcome
        assert target is not None
        place = self.places[target.provider]
        walk.asked += 1
        place.retries -= walker.retry
        was_trial = place.trial is walker
        if was_trial:
            place.trial = None
        if walker.cancelled:
            self.told.append((target.label, "cancelled"))
            self.frees(place)
            self.over(walker, error="CancelledError")
        elif word == "ok":
            self.told.append((target.label, "ok"))
            waits_for_its_end = walk.stream and place.broke
            if waits_for_its_end:
                place.trial = walker if was_trial else place.trial
            elif place.ends_s is None or was_trial:
                place.success(self.now_s)
            if walk.stream:
                self.open[walk.number] = Flow(walker, target.label, judged=not waits_for_its_end)
            else:
                self.frees(place)
            self.over(walker, answer=target.label)
        else:
            self.told.append((target.label, CLASSES[word]))
            if not (word in SAYS_NOTHING or (word == "late" and not self.had_its_time(walker))):
                place.failure(word, self.now_s, was_trial=was_trial)
                if walker.second:
                    place.doubt_ends_s = self.now_s + BACKOFF_S
            if not self.refuses(walker, word, RESTS_S.get(word) if "429" in word else None, place) and self.goes_on(
                walker
            ):
                self.goes(walker)

    def had_its_time(self, walker: Walker) -> bool:
        walk = walker.walk
        if self.now_s < walk.deadline_s - SLACK_S:
            return not (walker.queued and walk.policy.ttft_s) or self.was_silent(walker)
        return walk.patient and walk.deadline_s - walker.began_s >= CONNECT_S

    def was_silent(self, walker: Walker) -> bool:
        """Whether nobody had anything of the provider since this one came to it."""
        name = walker.target.provider  # type: ignore[union-attr]
        flowing = any(flow.label.startswith(f"{name}/") for flow in self.open.values())
        place = self.places[name]
        return not (flowing or place.flowed_s >= walker.came_s or place.success_s >= walker.came_s)

    def refuses(self, walker: Walker, word: str, wish_s: float | None, place: Place) -> bool:
        """It failed: True if that is the end of the walk."""
        walk, name = walker.walk, CLASSES[word]
        self.frees(place)
        if word == "unable" and walk.policy.on_incapable == "skip":
            return self.left(walker, "capability")
        walk.said.append((name, wish_s))
        if word in ENDS_WALK and name not in walk.policy.fallback_on:
            self.over(walker, error=name)
            return True
        return self.left(walker, name)

    def left(self, walker: Walker, reason: str) -> bool:
        walker.state = "new"
        walker.walk.rows.append((walker.target.label, reason))  # type: ignore[union-attr]
        return False

    def rests(self, walker: Walker, place: Place) -> bool:
        walker.walk.resting.append((place.last, max((place.ends_s or 0.0) - self.now_s, 0.0)))
        return self.left(walker, "cache-unhealthy")

    def frees(self, place: Place) -> None:
        """A seat is given back: to whoever is next."""
        since_s = place.since_s.pop(0)
        if not place.seats:
            place.taken -= 1
            return
        held_s = self.now_s - since_s
        place.hold_s = held_s if not place.hold_s else place.hold_s + (held_s - place.hold_s) / 8
        self.hands_on(place)

    def hands_on(self, place: Place) -> None:
        while place.queue:
            walker = place.queue.pop(0)
            if not walker.cancelled:
                walker.state = "granted"
                place.since_s.append(self.now_s)
                self.soon(1, lambda walker=walker: self.seated(walker))  # type: ignore[misc]
                return
        place.taken -= 1

    def cancel(self, walker: Walker) -> None:
        """It notices a turn later, unless it is about to notice something else."""
        if walker.cancelled or walker.state == "over":
            return
        walker.cancelled = True
        if walker.state == "queued":
            self.soon(1, lambda: self.gives_up(walker))
        elif walker.state == "asking" and not walker.outcome:
            walker.outcome = "cancelled"
            self.soon(1, lambda: self.ended(walker))

    def gives_up(self, walker: Walker) -> None:
        queue = self.places[walker.target.provider].queue  # type: ignore[union-attr]
        if walker in queue:
            queue.remove(walker)
        self.over(walker, error="CancelledError")

    # How walks end.

    def over(self, walker: Walker, answer: str | None = None, error: str | None = None) -> None:
        walk = walker.walk
        walker.state, walker.answer, walker.error = "over", answer, error
        if walk.stage == "alone":
            self.finish(walk, walker)
        else:
            self.soon(2, lambda: self.decided(walk))

    def hedges_now(self, walk: Walk) -> None:
        """The first has been silent for long enough."""
        if walk.stage != "racing" or walk.result or walk.walkers[0].state == "over":
            return
        skips = walk.needs and walk.policy.on_incapable == "skip"
        rest = [target for target in walk.chain[walk.position :] if not (skips and target.label in LACKING)]
        if self.saved >= 1.0 and any(map(self.usable, rest)):
            self.saved -= 1.0
            walk.stage = "both"
            walk.walkers.append(Walker(walk))
            self.soon(1, lambda: self.goes(walk.walkers[1]))
        else:
            walk.stage = "straight"

    def decided(self, walk: Walk) -> None:
        """Somebody has come to an end: perhaps the walk has."""
        if walk.stage in ("over", "deciding"):
            return
        first, *others = walk.walkers
        answered = [walker for walker in walk.walkers if walker.answer]
        winner: Walker | None = None
        if not walk.result:
            if first.error or not others:
                winner = first
            elif answered:
                winner = answered[0]
            elif any(walker.state != "over" for walker in walk.walkers):
                return
            else:
                winner = next((walker for walker in walk.walkers if walker.error), first)
        if others and others[0].calls:
            self.hedges.append("won" if winner in others and winner and winner.answer else "lost")
        elif others:
            self.saved = min(self.saved + 1.0, 5.0)
        walk.stage = "deciding"
        losers = [walker for walker in walk.walkers if walker.state != "over"]
        for walker in walk.walkers:
            self.cancel(walker)
            if walker.answer and walker is not winner and walk.stream:
                self.closes(walk.number)
        self.soon(3 if losers else 1, lambda: self.raced(walk, winner))

    def raced(self, walk: Walk, winner: Walker | None) -> None:
        self.finish(walk, winner)

    def finish(self, walk: Walk, winner: Walker | None) -> None:
        walk.stage = "over"
        if walk.result is not None:
            return
        if winner is None:
            walk.result = ("CancelledError", None)
        elif winner.error:
            walk.told = winner.late
            walk.result = (winner.error, winner.late.wish_s if winner.late else None)
        else:
            walk.result = (winner.answer, None) if winner.answer else self.exhausted(walk)

    def exhausted(self, walk: Walk) -> tuple[str, float | None]:
        said = [*walk.said, *walk.resting]
        if not walk.alias and said and said[0][0] in RATE_LIMITED:
            return said[0]
        walk.told = walk.story()
        return "NoHealthyProviderError", walk.told.wish_s

    def asking(self) -> list[Walker]:
        return [walker for walk in self.walks for walker in walk.walkers if walker.state == "asking"]

    def forget(self) -> None:
        self.walks = [walk for walk in self.walks if walk.stage != "over"]


def story(error: Any) -> list[tuple[str, str]]:
    """The rows that an error tells."""
    return [(row["model"], row["reason"]) for row in getattr(error, "attempts", [])]
