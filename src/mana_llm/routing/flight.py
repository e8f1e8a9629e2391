"""Identical requests that are under way at the same time share one walk: one walks, the others wait for its answer.

Only requests that deserve the same answer share: embeddings, and plain chats that leave nothing to chance. Who came
first leads, and walks in its own task. When it has an answer or an error, everybody who waits gets a copy. When it
cannot finish, because its client left, the first that still waits walks instead, and the rest now wait for that one:
there is never more than one walk for a question. Nothing outlives the walk; this is no cache.

A deadline is the leader's own. Who came later and still has at least half of its time goes on waiting, and one of them
walks again; so nobody is told that it is late who was not, and an upstream that hangs is still asked by one at a time.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec

from mana_llm.ports import Clock
from mana_llm.routing.answer import Answer
from mana_llm.routing.attempt import Request
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import DeadlineError, GatewayError, InternalError, MemoryShortError
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Route
from mana_llm.schema.wire import NULL

WORTH: Final = 0.5
"""The share of its time that a request must still have for a walk of its own, after another's time ran out."""
# As encoders write it. Another spelling (`0e0`) is no mistake, and is not shared.
_ZERO: Final = tuple(msgspec.Raw(text) for text in (b"0", b"0.0", b"-0", b"-0.0"))
_ONE: Final = (None, NULL, msgspec.Raw(b"1"))
_NOT_STORED: Final = (None, NULL, msgspec.Raw(b"false"))

Word = Answer | GatewayError | None
"""What one who waits is told: an answer, an error, or (None) to walk itself."""
Seat = asyncio.Future[Word]
Walk = Callable[[float | None], Awaitable[Answer]]
Problem = TypeVar("Problem", bound=GatewayError)


class Answering(Protocol):
    """Whatever answers requests: the router, or what stands before it."""

    def answer(
        self, request: Request, route: Route, exchange: Exchange, client_s: float | None = None
    ) -> Awaitable[Answer]:
        """As `routing.router.ProviderRouter.answer`."""
        ...


class Flight:
    """One question that is being walked for. `waiting` are those that wait, the oldest first, each with the instant
    until which it does; all of them had `total_s` when they came.
    """

    __slots__ = ("key", "total_s", "waiting")

    def __init__(self, key: bytes, total_s: float) -> None:
        self.key = key
        self.total_s = total_s
        self.waiting: OrderedDict[Seat, float] = OrderedDict()


class SingleFlight:
    """Stands before a router. `total_s` is what a walk may take where its alias does not say."""

    def __init__(self, router: Answering, clock: Clock, total_s: float) -> None:
        self._walk = router.answer
        self._now_s = clock.now_s
        self._total_s = total_s
        # By the digest of the question, so that nobody's words are kept. Bounded by the requests under way.
        self._flights: dict[bytes, Flight] = {}

    def __repr__(self) -> str:
        waiting = sum(len(flight.waiting) for flight in self._flights.values())
        return f"<SingleFlight {len(self._flights)} under way, {waiting} waiting>"

    def answer(
        self, request: Request, route: Route, exchange: Exchange, client_s: float | None = None
    ) -> Awaitable[Answer]:
        """As `Answering.answer`; `exchange.cache` tells how it came about.

        Raises:
            GatewayError: as the router, or a copy of what the router raised for an identical request.
        """
        # Most requests cannot share: for those this is a look at one member, and no coroutine of its own.
        if request.stream or exchange.fresh:
            return self._walk(request, route, exchange, client_s)
        temperature = request.fields.get("temperature")
        if type(request) is ChatRequest and (temperature is None or temperature not in _ZERO or _differs(request)):
            return self._walk(request, route, exchange, client_s)
        return self._share(request, route, exchange, client_s)

    async def _share(self, request: Request, route: Route, exchange: Exchange, client_s: float | None) -> Answer:
        walk = partial(self._walk, request, route, exchange)
        key = question(request, route, exchange, client_s)
        flight = self._flights.get(key)
        if flight is None:
            total_s = route.policy.total_s or self._total_s
            flight = Flight(key, total_s if client_s is None else min(total_s, client_s))
            exchange.cache = "miss"
            return await self._lead(flight, walk, client_s)
        exchange.cache = "hit"
        began_s = self._now_s()
        try:
            word = await self._wait(flight, route.asked)
        finally:
            # It waits for a provider, if through somebody else: none of that is the gateway's own time.
            waited_s = self._now_s() - began_s
            exchange.waited_s += waited_s
        if isinstance(word, Answer):
            exchange.cost_usd = 0.0
            return _copy_of(word)
        if word is not None:
            raise _twin_of(word)
        exchange.cache = "miss"
        left_s = flight.total_s - waited_s
        if left_s <= 0:
            self._hand_on(flight)
            raise _late_for(route.asked)
        return await self._lead(flight, walk, left_s)

    async def _lead(self, flight: Flight, walk: Walk, left_s: float | None) -> Answer:
        """Walk, and let everybody know who waits for it, however it ends."""
        try:
            self._flights[flight.key] = flight
            answer = await walk(left_s)
            # The leader's own reply writes its id and its model into the members before the others come to run.
            shared = _copy_of(answer) if flight.waiting else answer
        except DeadlineError as error:
            self._late(flight, error)
            raise
        except GatewayError as error:
            # Who asks the same would fail the same, and a thousand walks would only multiply an outage.
            self._land(flight, error)
            raise
        except MemoryError:
            self._land(flight, MemoryShortError())
            raise
        except Exception:
            # A bug of ours. It would meet the others too, and one traceback in the log is enough.
            self._land(flight, InternalError("The gateway failed; its log says why."))
            raise
        except asyncio.CancelledError:
            self._hand_on(flight)
            raise
        self._land(flight, shared)
        return answer

    async def _wait(self, flight: Flight, asked: str) -> Word:
        loop = asyncio.get_running_loop()
        seat: Seat = loop.create_future()
        timer = loop.call_later(flight.total_s, _give_up, seat, asked)
        try:
            flight.waiting[seat] = self._now_s() + flight.total_s
            return await seat
        except asyncio.CancelledError:
            if seat.done() and not seat.cancelled() and seat.result() is None:
                # It was to walk, and its client left before it could begin.
                self._hand_on(flight)
            raise
        finally:
            flight.waiting.pop(seat, None)
            timer.cancel()

    def _hand_on(self, flight: Flight) -> None:
        """The first that still waits walks; if nobody does, the flight is over."""
        while flight.waiting:
            seat, _ = flight.waiting.popitem(last=False)
            # One that was cancelled, or gave up, may not have run yet.
            if not seat.done():
                seat.set_result(None)
                return
        self._flights.pop(flight.key, None)

    def _late(self, flight: Flight, error: DeadlineError) -> None:
        """The leader's time is over, and with it that of those who came soon after it."""
        worth_s = self._now_s() + flight.total_s * WORTH
        for seat, until_s in list(flight.waiting.items()):
            if until_s >= worth_s:
                break
            del flight.waiting[seat]
            _tell(seat, error)
        self._hand_on(flight)

    def _land(self, flight: Flight, word: Answer | GatewayError) -> None:
        self._flights.pop(flight.key, None)
        for seat in flight.waiting:
            _tell(seat, word)


def _differs(request: ChatRequest) -> bool:
    """Whether a chat wants an answer of its own although its temperature is 0: several choices are asked for to differ,
    and a stored completion is an object that its client may change and delete.
    """
    return request.fields.get("n") not in _ONE or request.fields.get("store") not in _NOT_STORED


def question(request: Request, route: Route, exchange: Exchange, client_s: float | None) -> bytes:
    """What two requests have in common that share: the caller and its lane, its patience, the version of the aliases,
    and every member, whatever their order.
    """
    kind = type(request).__name__
    digest = hashlib.sha256(repr((exchange.caller, exchange.lane, client_s, route.config, kind)).encode())
    for name, raw in sorted(request.fields.items()):
        # With their lengths, so that no two lists of members read the same.
        told = name.encode()
        digest.update(b"%d:%d:%b" % (len(told), len(memoryview(raw)), told))
        digest.update(raw)
    return digest.digest()


def _late_for(asked: str) -> DeadlineError:
    """Its time ran out while somebody else walked: nothing was tried for it, and coming again may help."""
    error = DeadlineError(asked, [])
    error.in_vain = False
    return error


def _give_up(seat: Seat, asked: str) -> None:
    _tell(seat, _late_for(asked))


def _tell(seat: Seat, word: Answer | GatewayError) -> None:
    if not seat.done():
        seat.set_result(word)


def _copy_of(answer: Answer) -> Answer:
    """The same answer for another request: encoders change the members of the body they are given."""
    copy = Answer(answer.target, answer.ignored)
    if answer.completion:
        copy.completion = msgspec.structs.replace(answer.completion, fields=dict(answer.completion.fields))
    if answer.embeddings:
        copy.embeddings = msgspec.structs.replace(answer.embeddings, fields=dict(answer.embeddings.fields))
    return copy


def _twin_of(error: Problem) -> Problem:
    """The same error for another request, with a traceback of its own."""
    twin = type(error).__new__(type(error))
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    return twin
