"""Two walks that race: who wins, who is let go, and that nothing is left behind, whatever happens in which order."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.routing.answer import Answer
from mana_llm.routing.hedge import race
from mana_llm.schema.errors import GatewayError
from mana_llm.schema.targets import target_of

AFTER_S = 0.001


class Given(Answer):
    """An answer that counts how often it was closed."""

    __slots__ = ("closed",)

    def __init__(self, number: int) -> None:
        super().__init__(target_of("any", str(number)), ())
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Course:
    """Fake walks, each of which ends when its gate is opened: in an answer, an error, or none left.

    `places` counts what the walks hold; a stubborn one ends by itself although it was cancelled.
    """

    def __init__(self, *ends: str) -> None:
        self.gates = [asyncio.Event() for _ in ends]
        self.answers: list[Given] = []
        self.begun = 0
        self.places = 0
        self.told: list[bool] = []
        self._ends = ends

    async def walk(self) -> Answer | None:
        number = self.begun
        self.begun += 1
        self.places += 1
        try:
            await self.gates[number].wait()
        except asyncio.CancelledError:
            if not self._ends[number].startswith("stubborn"):
                raise
        finally:
            self.places -= 1
        end = self._ends[number].removeprefix("stubborn ")
        if end == "error":
            raise GatewayError(str(number))
        if end == "nobody":
            return None
        self.answers.append(Given(number))
        return self.answers[-1]

    def run(self, after_s: float = AFTER_S, *, allowed: bool = True) -> "asyncio.Task[Answer | None]":
        return asyncio.create_task(race(self.walk, after_s, lambda: allowed, self.told.append))

    async def until_begun(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.begun < count:  # noqa: ASYNC110 - the race's own timer is what is waited for
                await asyncio.sleep(AFTER_S)

    def assert_let_go(self, taken: Answer | None) -> None:
        """Nobody holds a place, and every answer but the one that was taken was closed once."""
        assert self.places == 0
        assert [answer.closed for answer in self.answers] == [int(answer is not taken) for answer in self.answers]


def running(work: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(work())  # type: ignore[arg-type]


def test_hedge_does_not_begin_when_the_first_answers_in_time():
    """A walk that answers before the delay is alone, and nobody is told of a hedge."""

    async def main() -> None:
        course = Course("answer", "answer")
        course.gates[0].set()
        answer = await course.run(60.0)
        assert (answer, course.begun, course.told) == (course.answers[0], 1, [])
        course.assert_let_go(answer)

    running(main)


def test_hedge_does_not_begin_when_it_is_not_allowed():
    """Without a budget the first walk goes on alone for as long as it takes."""

    async def main() -> None:
        course = Course("answer", "answer")
        task = course.run(allowed=False)
        await asyncio.sleep(AFTER_S * 5)
        course.gates[0].set()
        assert (await task, course.begun, course.told) == (course.answers[0], 1, [])

    running(main)


# Which walk is let go on first, how each ends, and what comes of it: who answers, or whose error it is.
RACES = [
    ((0, 1), ("answer", "answer"), 0),
    ((1, 0), ("answer", "answer"), 1),
    ((1, 0), ("answer", "error"), 0),
    ((1, 0), ("answer", "nobody"), 0),
    ((0, 1), ("nobody", "answer"), 1),
    ((0, 1), ("error", "answer"), "0"),
    ((1, 0), ("error", "error"), "0"),
    ((1, 0), ("nobody", "error"), "1"),
    ((0, 1), ("nobody", "error"), "1"),
    ((0, 1), ("nobody", "nobody"), None),
    ((1, 0), ("nobody", "nobody"), None),
    ((0, 1), ("answer", "stubborn answer"), 0),
    ((1, 0), ("stubborn answer", "answer"), 1),
    ((1, 0), ("stubborn error", "answer"), 1),
]


@pytest.mark.parametrize(("order", "ends", "outcome"), RACES)
def test_race_ends_as_its_first_answer_when_both_run(order, ends, outcome):
    """The first answer is taken; the first walk's error ends the race, the hedge's only if nobody else answers. The
    loser is gone when the race ends, an answer of its own is closed, and the end is told once.
    """

    async def main() -> None:
        course = Course(*ends)
        task = course.run()
        await course.until_begun(2)
        for number in order:
            course.gates[number].set()
            for _ in range(5):
                await asyncio.sleep(0)
        if isinstance(outcome, str):
            with pytest.raises(GatewayError, match=outcome):
                await task
            taken = None
        else:
            taken = await task
            assert (taken.target.model if taken else None) == (None if outcome is None else str(outcome))
        course.assert_let_go(taken)
        assert course.told == [taken is not None and outcome == 1]

    running(main)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_race_leaves_nothing_behind_when_anything_happens_in_any_order(data):
    """Walks that end anyhow, a client that leaves at any moment, even twice: no place is held and no answer kept but
    the one that was returned, and a hedge that began is told once.
    """

    async def main() -> None:
        kinds = st.sampled_from(["answer", "error", "nobody", "stubborn answer", "stubborn error", "stubborn nobody"])
        course = Course(data.draw(kinds), data.draw(kinds))
        task = course.run(data.draw(st.sampled_from([0.0, 60.0])))
        steps = st.lists(st.sampled_from(["first", "second", "leave", "turn", "turn"]), max_size=10)
        for step in data.draw(steps):
            if step == "leave":
                task.cancel()
            elif step == "turn":
                await asyncio.sleep(0)
            else:
                course.gates[step == "second"].set()
        for gate in course.gates:
            await asyncio.sleep(0)
            gate.set()
        if course.begun < 2:
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        # A walk that was let go of in the middle of a second cancellation ends by itself.
        for _ in range(5):
            await asyncio.sleep(0)
        course.assert_let_go(outcome if isinstance(outcome, Answer) else None)
        assert len(course.told) == int(course.begun == 2)
        assert not [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]

    running(main)
