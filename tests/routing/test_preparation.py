"""What comes before a provider is asked: it takes of the walk's time, and a failure in it is whose it is."""

import pytest
import uvloop

from mana_llm.routing.preparation import ASK_S, FACTS_BYTES_MAX, GLANCE_S, TIMER_SLACK_S, Preparation
from mana_llm.schema.chat import ChatRequest, Fetched
from mana_llm.schema.errors import (
    ProviderConnectError,
    ProviderProtocolError,
    ProviderServerError,
    ProviderTimeoutError,
    RequestError,
)
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import Call, Endpoint, Limits, Origin, Question

ORIGIN = Origin("http", "localhost", 11434)
SHOW, PS = Endpoint(ORIGIN, "POST", "/api/show"), Endpoint(ORIGIN, "GET", "/api/ps")
NEEDED = Question(Call(SHOW, b"{}"), 300.0)
WELCOME = Question(Call(PS), 5.0, needed=False)
LIMITS = Limits(connect_s=1.0, first_s=30.0, idle_s=60.0, total_s=10.0)
PICTURE = Fetched("image/png", b"png")
TARGET = Target("ollama", "m", "ollama/m")
NOT_IN_TIME = ProviderTimeoutError("not in time")


class Clock:
    """Time that stands until it is set."""

    def __init__(self):
        self.at_s = 1000.0

    def now_s(self):
        return self.at_s

    def wall_s(self):
        raise AssertionError("nothing here is told by the calendar")


class Model:
    """A provider that asks and fetches as it is told, and notes what it is told."""

    def __init__(self, *questions, urls=()):
        self._questions = questions
        self._urls = urls
        self.facts = []

    def questions(self, request, model):
        return self._questions

    def judge(self, request, model, facts):
        self.facts.append(facts)

    def urls_to_fetch(self, request):
        return self._urls

    def decode_error(self, status, headers, body):
        return ProviderServerError(f"it said {status}")


class Response:
    """An answer that is there at once."""

    headers = ()

    def __init__(self, status, body):
        self.status = status
        self._body = body
        self.closed = False

    async def read_all(self, bytes_max):
        if len(self._body) > bytes_max:
            raise ProviderProtocolError("too much")
        return self._body

    def close(self):
        self.closed = True


class World:
    """A preparation whose transport and fetcher take the time that they are told to.

    `says` is what every question comes to: an error, or a status and a body.
    """

    def __init__(self, says=(200, b"facts"), asks_s=0.0, fetches_s=0.0):
        self.clock = Clock()
        self.says = says
        self.responses = []
        self.asked = []
        self.limits = []
        self.left_s = []
        self.fetched = []
        self._asks_s = asks_s
        self._fetches_s = fetches_s
        self.preparation = Preparation(self, self, self.clock)

    async def send(self, call, limits):
        self.asked.append(call.endpoint.target)
        self.limits.append(limits)
        self.clock.at_s += self._asks_s
        if isinstance(self.says, Exception):
            raise self.says
        self.responses.append(Response(*self.says))
        return self.responses[-1]

    async def close(self):
        pass

    async def fetch(self, urls, left_s):
        self.left_s.append(left_s)
        self.fetched += urls
        self.clock.at_s += self._fetches_s
        return dict.fromkeys(urls, PICTURE)

    def prepare(self, model, request, limits=LIMITS):
        return uvloop.run(self.preparation.prepare(model, request, TARGET, limits))


def request():
    return ChatRequest({}, "ollama/m", stream=False, include_usage=False)


def test_limits_are_untouched_when_there_is_nothing_to_prepare():
    """A request for text costs no look at the clock and changes nothing."""
    world = World()
    world.clock.now_s = None
    assert world.prepare(Model(), request()) is LIMITS


def test_time_is_taken_off_when_preparing_took_some():
    """What asking took is not there for fetching, and what both took is not there for the attempt."""
    world, asked = World(asks_s=2.0, fetches_s=3.0), request()
    left = world.prepare(Model(NEEDED, urls=("https://a.test/",)), asked)
    assert world.left_s == [8.0]
    assert left == Limits(1.0, 30.0, 60.0, 5.0)
    assert asked.fetched == {"https://a.test/": PICTURE}


@pytest.mark.parametrize(
    ("question", "left_s", "ask_s"),
    [(NEEDED, 10.0, ASK_S), (NEEDED, 0.5, 0.5), (WELCOME, 10.0, GLANCE_S), (WELCOME, 0.25, 0.25)],
)
def test_question_ends_with_the_walk_when_little_is_left(question, left_s, ask_s):
    """Asking has its own limit, less where the answer is not needed, and never more than the walk has."""
    world, model = World(), Model(question)
    world.prepare(model, request(), Limits(1.0, None, 60.0, left_s))
    assert world.limits == [Limits(1.0, ask_s, ask_s, ask_s)]
    assert model.facts == [[b"facts"]]


def test_answers_are_believed_as_long_as_their_questions_say():
    """Each question has its own freshness: what is loaded is asked again long before what a model can do."""
    world, model = World(), Model(NEEDED, WELCOME)
    for at_s in (0.0, 4.9, 5.0, 299.9, 300.0):
        world.clock.at_s = 1000.0 + at_s
        world.prepare(model, request())
    assert world.asked == ["/api/show", "/api/ps", "/api/ps", "/api/ps", "/api/show"]
    assert model.facts == [[b"facts", b"facts"]] * 5
    assert all(response.closed for response in world.responses)


@pytest.mark.parametrize("question", [NEEDED, WELCOME])
def test_provider_has_failed_when_nobody_is_reached(question):
    """No connection is the provider's own failure, whatever was asked: the walk goes on and health learns of it."""
    model = Model(question)
    with pytest.raises(ProviderConnectError) as caught:
        World(says=ProviderConnectError("nobody there")).prepare(model, request())
    assert (caught.value.health, caught.value.walks_on) == ("failure", True)
    assert not model.facts


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (WELCOME, NOT_IN_TIME),
        (WELCOME, (502, b"")),
        (NEEDED, NOT_IN_TIME),
        (NEEDED, (502, b"")),
        (WELCOME, (404, b"")),
        (NEEDED, (404, b"")),
        (NEEDED, (400, b"")),
        (NEEDED, (200, b" " * (FACTS_BYTES_MAX + 1))),
        (NEEDED, ProviderProtocolError("it broke off")),
    ],
)
def test_nothing_is_known_when_the_provider_answers_something_else(question, says):
    """A server that answers without saying is judged by what is known without it, and asked again the next time."""
    world, model = World(says=says), Model(question)
    world.prepare(model, request())
    world.prepare(model, request())
    assert model.facts == [[None], [None]]
    assert len(world.asked) == 2


@pytest.mark.parametrize("question", [NEEDED, WELCOME])
def test_provider_is_not_blamed_when_a_question_takes_the_rest_of_the_time(question):
    """A question that ends with the walk's own time says nothing about the provider."""
    with pytest.raises(ProviderTimeoutError) as caught:
        World(says=NOT_IN_TIME, asks_s=1.0).prepare(Model(question), request(), Limits(1.0, None, 60.0, 1.0))
    assert (caught.value.health, caught.value.walks_on) == ("none", True)


def test_provider_is_not_asked_when_no_time_is_left_for_it():
    """A walk whose time went into preparing ends as a time-out that harms nobody's health."""
    world = World(fetches_s=10.0 - TIMER_SLACK_S / 2)
    with pytest.raises(ProviderTimeoutError) as caught:
        world.prepare(Model(urls=("https://a.test/",)), request())
    assert (caught.value.health, caught.value.walks_on) == ("none", True)


def test_image_is_fetched_once_when_two_entries_need_it():
    """What one entry of the chain fetched is there for the next; nothing new, nothing fetched."""
    world, asked = World(), request()
    world.prepare(Model(urls=("https://a.test/",)), asked)
    world.prepare(Model(urls=("https://a.test/", "https://b.test/")), asked)
    assert world.fetched == ["https://a.test/", "https://b.test/"]
    assert world.prepare(Model(urls=("https://a.test/",)), asked) is LIMITS


def test_request_keeps_what_it_had_when_a_fetch_fails():
    """A refusal passes through as it is."""
    world = World()

    async def refusing(urls, left_s):
        raise RequestError("no", param="messages")

    world.fetch = refusing
    asked = request()
    with pytest.raises(RequestError, match="no"):
        world.prepare(Model(urls=("https://a.test/",)), asked)
    assert not asked.fetched
