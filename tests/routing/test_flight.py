"""Identical requests share one walk, whoever comes, leaves, fails or gives up, in any order."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.dialects.openai import OpenAI
from mana_llm.routing.answer import Answer
from mana_llm.routing.flight import SingleFlight, question
from mana_llm.schema.chat import ChatCompletion, Identity
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import (
    DeadlineError,
    GatewayError,
    InternalError,
    MemoryShortError,
    NoHealthyProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    RequestError,
)
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Route, target_of
from mana_llm.schema.usage import usage_of
from mana_llm.schema.wire import encode_json
from tests.turned import TurnedLoop

TOTAL_S = 10.0
TARGET = target_of("any", "m")
ROUTE = Route("any/m", (TARGET,), None, "v1")
ASKED = b'{"model":"any/m","messages":[{"role":"user","content":"Hello"}],"temperature":0}'


class Stage:
    """Single flight before a stand-in for the router: each walk waits until it is told how to end."""

    def __init__(self) -> None:
        self.loop = TurnedLoop()
        self.walks: list[asyncio.Future[str]] = []
        self.walking: list[Exchange] = []
        self.given_s: list[float | None] = []
        self.asked: list[Asking] = []
        self.flight = SingleFlight(self, self.loop, TOTAL_S)

    async def answer(self, request: Any, route: Route, exchange: Exchange, client_s: float | None = None) -> Answer:
        """The walk; ends as its future says, which holds the answer's text, or the name of an error."""
        walk: asyncio.Future[str] = self.loop.create_future()
        self.walks.append(walk)
        self.walking.append(exchange)
        self.given_s.append(client_s)
        try:
            word = await walk
        finally:
            self.walking.remove(exchange)
        if word == "fails":
            raise NoHealthyProviderError("any/m", [{"model": "any/m", "reason": "x", "detail": ""}], 3.0)
        if word == "late":
            raise DeadlineError("any/m", [{"model": "any/m", "reason": "x", "detail": ""}])
        if word == "memory":
            raise MemoryError
        if word == "bug":
            raise ZeroDivisionError
        answer = Answer(TARGET, ("ignored",))
        if isinstance(request, EmbeddingsRequest):
            answer.embeddings = Embeddings({"data": []}, usage_of(3, 0))
            return answer
        answer.completion = ChatCompletion({"object": "chat.completion", "text": word}, usage_of(3, 5))
        return answer

    def ask(self, body: bytes = ASKED, client_s: float | None = None, **said: Any) -> "Asking":
        self.asked.append(Asking(self, body, client_s, said))
        return self.asked[-1]

    def end(self, word: str) -> None:
        """End the walk that is under way."""
        (walk,) = [walk for walk in self.walks if not walk.done()]
        walk.set_result(word)
        self.loop.turn()

    def close(self) -> None:
        """Everybody is through, and nothing is left."""
        assert repr(self.flight) == "<SingleFlight 0 under way, 0 waiting>"
        assert not self.walking
        # An error that no test looks at is no mistake.
        assert all(each.task.cancelled() or each.task.exception() or each.task.result() for each in self.asked)
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()


class Asking:
    """One request and its task; it has begun when this is made, unless the loop is not `turned` yet."""

    def __init__(self, stage: Stage, body: bytes, client_s: float | None, said: dict[str, Any]) -> None:
        self.exchange = Exchange(f"r-{len(stage.walks)}-{id(self)}", stage.loop.now)
        for name, value in said.items():
            setattr(self.exchange, name, value)
        dialect = OpenAI()
        request = dialect.decode_embeddings(body) if b'"input"' in body else dialect.decode_chat(body)
        self.task = stage.loop.create_task(self.run(stage.flight, request, client_s))

    async def run(self, flight: SingleFlight, request: Any, client_s: float | None) -> Answer:
        """As the edge does: the reply is written into what the answer holds, at once."""
        answer = await flight.answer(request, ROUTE, self.exchange, client_s)
        if answer.completion:
            OpenAI().encode_chat(answer.completion, answer.target.label, Identity(self.exchange.request_id, 1))
        return answer

    @property
    def error(self) -> Any:
        return self.task.exception()

    @property
    def text(self) -> str:
        return str(self.task.result().completion.fields["text"])


@pytest.fixture
def on() -> Any:
    stage = Stage()
    yield stage
    stage.close()


def three(on: Stage) -> list[Asking]:
    asked = [on.ask() for _ in range(3)]
    on.loop.turn()
    assert len(on.walks) == 1
    return asked


def test_answer_is_shared_when_questions_are_identical(on):
    """One walk answers all; each has an answer of its own, with its own id, and only the first is told a miss."""
    asked = three(on)
    on.end("hello")
    assert [each.text for each in asked] == ["hello"] * 3
    assert [each.task.result().completion.fields["id"] for each in asked] == [
        each.exchange.request_id for each in asked
    ]
    assert [each.exchange.cache for each in asked] == ["miss", "hit", "hit"]
    assert [each.task.result().ignored for each in asked] == [("ignored",)] * 3


def test_wait_is_no_overhead_when_an_answer_is_shared(on):
    """What a request waited for another's answer counts as waiting for a provider; it cost nothing, asked nobody."""
    _, second, _ = three(on)
    on.loop.turn(2.0)
    on.end("hello")
    exchange = second.exchange
    assert (exchange.waited_s, exchange.queued_s, exchange.attempts, exchange.cost_usd) == (2.0, 0.0, 0, 0.0)


def test_question_is_walked_again_when_the_first_walk_is_over(on):
    """Nothing is kept: who asks after the answer has come is walked for."""
    on.ask()
    on.loop.turn()
    on.end("first")
    again = on.ask()
    on.loop.turn()
    on.end("second")
    assert (again.text, len(on.walks)) == ("second", 2)


def test_first_follower_walks_when_the_leader_leaves(on):
    """One is promoted, in the order of coming; the others get its answer, and it is told a miss."""
    first, second, third = three(on)
    first.task.cancel()
    on.loop.turn(4.0)
    assert (len(on.walks), on.walking) == (2, [second.exchange])
    assert on.given_s == [None, TOTAL_S - 4.0]
    on.end("hello")
    assert [each.text for each in (second, third)] == ["hello"] * 2
    assert [each.exchange.cache for each in (second, third)] == ["miss", "hit"]
    assert second.exchange.cost_usd is None


def test_next_follower_walks_when_the_promoted_one_leaves_in_that_moment(on):
    """A promotion that comes too late is handed on, and whoever left before it is passed by."""
    first, second, third = three(on)
    fourth = on.ask()
    on.loop.turn()
    third.task.cancel()
    first.task.cancel()
    # After the first has handed on, and before the second has run.
    on.loop.call_soon(second.task.cancel)
    on.loop.turn()
    assert on.walking == [fourth.exchange]
    on.end("hello")
    assert fourth.text == "hello"


def test_nobody_walks_when_the_leader_leaves_as_time_is_over(on):
    """Who is promoted in the moment in which its own time ends is late, as are all that came with it."""
    first, second, third = three(on)
    on.loop.now += TOTAL_S
    first.task.cancel()
    on.loop.turn()
    assert [type(each.error) for each in (second, third)] == [DeadlineError] * 2
    assert len(on.walks) == 1


def test_flight_is_over_when_everybody_leaves(on):
    """Nobody is left to walk, and nothing is kept."""
    for each in three(on):
        each.task.cancel()
    on.loop.turn()
    assert len(on.walks) == 1


def test_others_wait_on_when_one_of_them_leaves(on):
    """A follower's leaving is nobody else's matter."""
    first, second, third = three(on)
    second.task.cancel()
    on.loop.turn()
    on.end("hello")
    assert [each.text for each in (first, third)] == ["hello"] * 2
    assert second.task.cancelled()


def test_error_is_shared_when_the_walk_fails(on):
    """All get the same error, each an instance of its own, and nobody walks again."""
    asked = three(on)
    on.end("fails")
    errors = [each.error for each in asked]
    assert {type(error) for error in errors} == {NoHealthyProviderError}
    assert len({id(error) for error in errors}) == 3
    assert all(error.body() == errors[0].body() and error.headers() == errors[0].headers() for error in errors)
    assert [each.exchange.cache for each in asked] == ["miss", "hit", "hit"]


ERRORS: list[GatewayError] = [
    RequestError("no", status=415, code="c", param="p"),
    ProviderRateLimitError("slow", retry_after_s=7.0),
    ProviderRequestError("no", status=418, code="c", param="p"),
    DeadlineError("m", [], 2.0),
    InternalError("oh"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.reason)
def test_error_says_the_same_when_it_is_shared(error):
    """Whatever a class keeps beside its message, status, headers and body of a shared error are the same."""
    stage = Stage()
    first, second = stage.ask(), stage.ask()
    stage.loop.turn()
    # Late enough for a deadline to be everybody's.
    stage.loop.turn(TOTAL_S * 0.6)
    stage.walks[0].set_exception(error)
    stage.loop.turn()
    assert first.error is error
    twin = second.error
    assert twin is not error
    assert (twin.status, twin.body(), twin.headers(), str(twin), twin.reason) == (
        error.status,
        error.body(),
        error.headers(),
        str(error),
        error.reason,
    )
    stage.close()


def test_followers_get_an_internal_error_when_the_leader_meets_a_bug(on):
    """The leader's exception is its own, for the log; the others are told that it was our fault."""
    first, second, third = three(on)
    on.end("bug")
    assert isinstance(first.error, ZeroDivisionError)
    assert [type(each.error) for each in (second, third)] == [InternalError] * 2
    assert len(on.walks) == 1


def test_followers_are_told_to_come_again_when_memory_runs_out(on):
    """The leader's MemoryError is answered at the edge; for the others it is the same 503, and nobody hangs."""
    first, second, _ = three(on)
    on.end("memory")
    assert isinstance(first.error, MemoryError)
    assert isinstance(second.error, MemoryShortError)
    assert len(on.walks) == 1


def test_latecomer_walks_when_the_leaders_time_is_over(on):
    """Who came with the leader is late with it; who has half of its time left walks, and has no more than that."""
    first, second, _ = three(on)
    on.loop.turn(6.0)
    later = [on.ask(), on.ask()]
    on.loop.turn()
    on.loop.turn(4.0)
    # Their own time is over, whether the leader's error or their own timer comes first.
    on.end("late")
    assert [type(each.error) for each in (first, second)] == [DeadlineError] * 2
    assert on.walking == [later[0].exchange]
    assert on.given_s[1] == 6.0
    on.end("hello")
    assert [each.text for each in later] == ["hello"] * 2


def test_follower_gives_up_when_its_own_time_is_over(on):
    """A leader that overstays holds up nobody beyond the time that its request has."""
    first, second, _ = three(on)
    on.loop.turn(TOTAL_S)
    assert isinstance(second.error, DeadlineError)
    assert "none was tried" in str(second.error)
    on.end("hello")
    assert first.text == "hello"


def test_impatience_is_kept_when_a_client_has_its_own_limit(on):
    """The client's own limit ends its wait, and is what the walk gets."""
    asked = [on.ask(client_s=2.0) for _ in range(2)]
    on.loop.turn()
    assert on.given_s == [2.0]
    on.loop.turn(2.0)
    assert isinstance(asked[1].error, DeadlineError)
    on.end("late")


def test_embeddings_are_shared_when_they_are_identical(on):
    """They need no temperature; each has members of its own."""
    body = b'{"model":"any/m","input":"a"}'
    asked = [on.ask(body) for _ in range(2)]
    on.loop.turn()
    on.end("hello")
    first, second = (each.task.result().embeddings for each in asked)
    assert first == second
    assert first.fields is not second.fields
    assert [each.exchange.cache for each in asked] == ["miss", "hit"]


OTHERS: dict[str, Callable[[Stage], Asking]] = {
    "caller": lambda on: on.ask(caller="key-2"),
    "lane": lambda on: on.ask(lane="batch"),
    "patience": lambda on: on.ask(client_s=5.0),
    "fresh": lambda on: on.ask(fresh=True),
    "member": lambda on: on.ask(ASKED.replace(b"Hello", b"Hullo")),
    "more": lambda on: on.ask(ASKED[:-1] + b',"user":"u"}'),
    "model": lambda on: on.ask(ASKED.replace(b"any/m", b"any/n")),
    "warm": lambda on: on.ask(ASKED.replace(b'"temperature":0', b'"temperature":0.1')),
}


@pytest.mark.parametrize("other", OTHERS)
def test_nothing_is_shared_when_something_differs(other):
    """Another caller, lane, patience or member is another question."""
    stage = Stage()
    stage.ask()
    OTHERS[other](stage)
    stage.loop.turn()
    assert len(stage.walking) == 2
    for walk in stage.walks:
        walk.set_result("hello")
    stage.loop.turn()
    stage.close()


def test_walk_is_the_routers_own_when_nothing_can_be_shared(on):
    """What cannot share costs no coroutine of its own: the caller awaits the router's."""
    request = OpenAI().decode_chat(b'{"model":"any/m","messages":[1]}')
    walk: Any = on.flight.answer(request, ROUTE, Exchange("r", 0.0))
    assert walk.__qualname__ == "Stage.answer"
    walk.close()


REPEATABLE = {
    b'"temperature":0': True,
    b'"temperature":0.0': True,
    b'"temperature":-0': True,
    b'"temperature":-0.0': True,
    b'"temperature" : 0 , "n" : 1': True,
    b'"temperature":0,"n":null': True,
    b'"temperature":0,"store":false': True,
    b'"temperature":0,"store":null,"seed":7': True,
    b'"n":1': False,
    b'"temperature":null': False,
    b'"temperature":"0"': False,
    b'"temperature":false': False,
    b'"temperature":[0]': False,
    b'"temperature":0e7': False,
    b'"temperature":1e-9': False,
    b'"temperature":1e999': False,
    b'"temperature":0,"n":2': False,
    b'"temperature":0,"n":"1"': False,
    b'"temperature":0,"store":true': False,
}


@pytest.mark.parametrize("members", REPEATABLE)
def test_chat_is_shared_when_it_leaves_nothing_to_chance(members):
    """Temperature 0 as encoders write it, one choice, nothing stored."""
    stage = Stage()
    for _ in range(2):
        stage.ask(b'{"messages":[1],%b}' % members)
    stage.loop.turn()
    assert len(stage.walks) == (1 if REPEATABLE[members] else 2)
    for walk in stage.walks:
        walk.set_result("hello")
    stage.loop.turn()
    stage.close()


NAMES = st.sampled_from(["model", "temperature", "n", "a", "ab", "é", "x:1", "12:3:x"])
VALUES = st.sampled_from(["", "a", "b", "é", "1:1", 0, 1, None, [], ["a"], {}])
MEMBERS = st.dictionaries(NAMES, VALUES, max_size=5)


@given(first=MEMBERS, second=MEMBERS, data=st.data())
def test_questions_are_the_same_when_their_members_are(first, second, data):
    """Members in another order are the same question; any other difference makes another."""
    fixed = {"messages": [1], "model": "m"}

    def key(members: dict[str, Any]) -> bytes:
        order = data.draw(st.permutations(list({**members, **fixed}.items())))
        request = OpenAI().decode_chat(encode_json(dict(order)))
        return question(request, ROUTE, Exchange("r", 0.0), None)

    assert (key(first) == key(second)) is ({**first, **fixed} == {**second, **fixed})


def test_questions_differ_when_members_are_cut_elsewhere():
    """No two lists of members run together into the same bytes."""
    request = OpenAI().decode_chat(ASKED)
    keys = {
        question(msgspec.structs.replace(request, fields=fields), ROUTE, Exchange("r", 0.0), None)
        for fields in (
            {"a": msgspec.Raw(b"1"), "b": msgspec.Raw(b"2")},
            {"a": msgspec.Raw(b"11:1:b2")},
            {"a1": msgspec.Raw(b""), "b": msgspec.Raw(b"2")},
            {"a": msgspec.Raw(b"12")},
            {"a1": msgspec.Raw(b"2")},
        )
    }
    assert len(keys) == 5


STEPS = st.sampled_from(
    [
        "ask",
        "ask",
        "ask other",
        "leave",
        "leave first",
        "leave twice",
        "leave in a row",
        "step",
        "turn",
        "wait",
        "ends",
        "fails",
        "late",
        "bug",
    ]
)


@settings(max_examples=400, deadline=None)
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 7)), max_size=40))
def test_everybody_is_answered_when_anything_happens_in_any_order(steps):
    """Whoever does not leave gets an answer, an error or its deadline; one walk at a time; nothing is left over."""
    on = Crowd()
    for step, number in steps:
        on.play(step, number)
        on.check()
    for _ in range(100):
        on.loop.turn()
        on.check(at_rest=True)
        if not on.walking:
            break
        on.finish("ends")
    on.loop.turn()
    for each in on.asked:
        assert each.task.done(), "somebody hangs"
        if each not in on.left:
            assert not each.task.cancelled()
            assert each.exchange.cache in ("miss", "hit")
    # Every walk was somebody's own: no request walks twice.
    assert len(on.walks) <= len(on.asked)
    on.close()


class Crowd(Stage):
    """Two questions, asked by many at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[Asking] = []

    def play(self, step: str, number: int) -> None:
        match step:
            case "ask" | "ask other":
                self.ask(caller=step)
            case "step":
                self.loop.run_until_complete(asyncio.sleep(0))
            case "turn":
                self.loop.turn()
            case "wait":
                self.loop.turn(number * 2.0)
            case "ends" | "fails" | "late" | "bug":
                self.finish(step)
            case _:
                self.leave(step, number)

    def leave(self, step: str, number: int) -> None:
        """Clients leave: any, the oldest, one told so twice, or some in a row."""
        here = [each for each in self.asked if not each.task.done()]
        if not here:
            return
        first, *others = here if step in ("leave first", "leave in a row") else here[number % len(here) :]
        self.left.append(first)
        first.task.cancel()
        if step == "leave twice":
            first.task.cancel()
        if step == "leave in a row":
            # After the first has run, and before those run whom that concerns.
            for other in others[: number % 3]:
                self.left.append(other)
                self.loop.call_soon(other.task.cancel)

    def finish(self, word: str) -> None:
        """End a walk; whoever asked hears of it when the loop runs."""
        for walk in self.walks:
            if not walk.done():
                walk.set_result(word)
                return

    def check(self, *, at_rest: bool = False) -> None:
        """At most one walk per question; at rest, one exactly where anybody still waits."""
        for caller in ("ask", "ask other"):
            walking = [exchange for exchange in self.walking if exchange.caller == caller]
            waiting = [each for each in self.asked if each.exchange.caller == caller and not each.task.done()]
            assert len(walking) <= 1
            if at_rest:
                assert bool(walking) == bool(waiting)
