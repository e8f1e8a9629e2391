"""What comes before a provider is asked: it takes of the walk's time, and is never the provider's fault."""

import pytest
import uvloop

from mana_llm.routing.preparation import ASK_S, TIMER_SLACK_S, Preparation
from mana_llm.schema.chat import ChatRequest, Fetched
from mana_llm.schema.errors import ProviderConnectError, ProviderTimeoutError, RequestError
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import Call, Endpoint, Limits, Origin

QUESTION = Call(Endpoint(Origin("http", "localhost", 11434), "POST", "/api/show"), b"{}")
LIMITS = Limits(connect_s=1.0, first_s=30.0, idle_s=60.0, total_s=10.0)
PICTURE = Fetched("image/png", b"png")
TARGET = Target("ollama", "m", "ollama/m")


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

    def __init__(self, question=None, urls=()):
        self._question = question
        self._urls = urls
        self.facts = []

    def question(self, request, model):
        return self._question

    def judge(self, request, model, facts):
        self.facts.append(facts)

    def urls_to_fetch(self, request):
        return self._urls


class World:
    """A preparation whose transport and fetcher take the time that they are told to."""

    def __init__(self, asks_s=0.0, fetches_s=0.0):
        self.clock = Clock()
        self.limits = []
        self.left_s = []
        self.fetched = []
        self._asks_s = asks_s
        self._fetches_s = fetches_s
        self.preparation = Preparation(self, self, self.clock)

    async def send(self, call, limits):
        self.limits.append(limits)
        self.clock.at_s += self._asks_s
        raise ProviderConnectError("nobody there")

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
    left = world.prepare(Model(QUESTION, ("https://a.test/",)), asked)
    assert world.left_s == [8.0]
    assert left == Limits(1.0, 30.0, 60.0, 5.0)
    assert asked.fetched == {"https://a.test/": PICTURE}


@pytest.mark.parametrize(("left_s", "ask_s"), [(10.0, ASK_S), (0.5, 0.5)])
def test_question_ends_with_the_walk_when_little_is_left(left_s, ask_s):
    """Asking has its own limit, and never more than the walk has."""
    world, model = World(), Model(QUESTION)
    world.prepare(model, request(), Limits(1.0, None, 60.0, left_s))
    assert world.limits == [Limits(1.0, ask_s, ask_s, ask_s)]
    assert model.facts == [None]


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
