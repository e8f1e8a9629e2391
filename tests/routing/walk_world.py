"""The real router, health and admission on a clock turned by hand, before providers that do as they are told."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from mana_llm.ports import ProviderEntry
from mana_llm.routing.admission import Admission, QueuePolicy
from mana_llm.routing.answer import Answer
from mana_llm.routing.attempt import Ways
from mana_llm.routing.health import HealthPolicy, ProviderHealthCache
from mana_llm.routing.preparation import Preparation
from mana_llm.routing.router import Guards, ProviderRouter
from mana_llm.routing.walk import WalkLimits
from mana_llm.schema.chat import ChatChunk, ChatCompletion, ChatRequest
from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderCapabilityError,
    ProviderConnectError,
    ProviderError,
    ProviderProtocolError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderServerError,
    ProviderTimeoutError,
    RequestError,
)
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Route
from mana_llm.schema.wire import Call, Endpoint, Limits, Origin
from tests.turned import TurnedLoop

QUEUE_S = 2.03
CONNECT_S = 1.0
TOTAL_S = 9.73
STREAM_FIRST_S = 6.29
BACKOFF_S = 20.0
FAILURES_MAX = 3
"""Three, so that a trial's failure takes a provider out that has failed but once."""
WAITING_MAX = 3
SEATS = {"one": 1, "two": 2, "free": 0, "gone": 0}
"""The providers; `gone` is not configured."""
LACKING = ("two/m", "free/n")
"""Entries that are known not to do what some requests need."""

ERRORS: dict[str, Callable[[], ProviderError]] = {
    "connect": lambda: ProviderConnectError("no"),
    "500": lambda: ProviderServerError("500"),
    "protocol": lambda: ProviderProtocolError("odd"),
    "429": lambda: ProviderRateLimitError("later"),
    "429 for 30 s": lambda: ProviderRateLimitError("later", retry_after_s=30.0),
    "quota": lambda: ProviderQuotaError("no money"),
    "tool call": lambda: ProviderServerError("tool_use_failed", health="none"),
    "key": lambda: ProviderAuthError("key"),
    "unable": lambda: ProviderCapabilityError("no tools"),
}
"""What a call can come to besides an answer, by its name here."""


class Underway:
    """One call that a provider works on. `outcome` is how it ends: None is an answer, else the error."""

    def __init__(self, label: str, request: int, loop: TurnedLoop) -> None:
        self.label = label
        self.request = request
        self.outcome: asyncio.Future[Exception | None] = loop.create_future()

    def expire(self) -> None:
        if not self.outcome.done():
            self.outcome.set_result(ProviderTimeoutError("late"))


class Said:
    """`ports.UpstreamResponse` of an answer that has come: `fate` is the rest of a stream."""

    status = 200
    headers = ((b"content-type", b"text/plain"),)
    media_type = b"text/plain"
    connect_s = 0.0

    def __init__(self, open_streams: list["Said"], call: Underway) -> None:
        self._open = open_streams
        self.label, self.request = call.label, call.request
        self.fate: Exception | None = None
        self._read = False
        open_streams.append(self)

    async def read(self) -> bytes:
        if not self._read:
            self._read = True
            return b"x"
        if self.fate:
            raise self.fate
        return b""

    async def read_all(self, bytes_max: int) -> bytes:
        return await self.read()

    def content_began(self) -> None:
        pass

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        if self in self._open:
            self._open.remove(self)


class Upstreams:
    """`ports.Transport`: `calls` are under way, `open` answers whose holder has not closed them."""

    def __init__(self, loop: TurnedLoop) -> None:
        self._loop = loop
        self.calls: list[Underway] = []
        self.open: list[Said] = []
        self.asked: list[tuple[int, str, float]] = []

    async def send(self, call: Call, limits: Limits) -> Said:
        request, _, label = call.body.decode().partition(" ")
        underway = Underway(label, int(request), self._loop)
        self.calls.append(underway)
        self.asked.append((underway.request, label, self._loop.now))
        left_s = [limits.total_s] if limits.first_s is None else [limits.total_s, limits.first_s]
        timers = [self._loop.call_later(after_s, underway.expire) for after_s in left_s]
        try:
            error = await underway.outcome
        finally:
            self.calls.remove(underway)
            for timer in timers:
                timer.cancel()
        if error:
            raise error
        return Said(self.open, underway)

    async def close(self) -> None:
        pass


class Decoder:
    """`ports.ChatStreamDecoder`: the first piece has content, the end is the end."""

    failure = None

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> list[ChatChunk]:
        return [ChatChunk({}, [], has_content=True)]

    def end(self) -> list[ChatChunk]:
        self.done = True
        return []


class Told:
    """`ports.Provider`: `refusals` say which requests it cannot even write down."""

    plain_type = stream_type = b"text/plain"

    def __init__(self, name: str, refusals: dict[tuple[int, str], Exception]) -> None:
        self.name = name
        self._refusals = refusals
        self._endpoint = Endpoint(Origin("http", name, 80), "POST", "/")

    def encode_chat(self, request: ChatRequest, model: str) -> Call:
        number, label = int(request.model), f"{self.name}/{model}"
        if (number, label) in self._refusals:
            raise self._refusals[number, label]
        return Call(self._endpoint, f"{number} {label}".encode())

    def questions(self, request: ChatRequest, model: str) -> tuple[()]:
        return ()

    def urls_to_fetch(self, request: ChatRequest) -> tuple[()]:
        return ()

    def decode_chat(self, body: bytes, request: ChatRequest) -> ChatCompletion:
        return ChatCompletion({})

    def open_stream(self, request: ChatRequest, model: str = "") -> Decoder:
        return Decoder()


class Known:
    """The catalogue, as far as a walk asks it."""

    def lack(self, target: Any, needs: tuple[str, ...]) -> str | None:
        return needs[0] if needs and target.label in LACKING else None


class Counted:
    """`ports.Observer`: what was told of attempts and hedges."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, str]] = []
        self.hedges: list[str] = []
        self.broken: list[str] = []

    def attempt_ended(self, target: Any, status: str) -> None:
        self.attempts.append((target.label, status))

    def stream_broke(self, target: Any, reason: str) -> None:
        self.broken.append(reason)

    def fallback(self, from_model: str, to_model: str, reason: str) -> None:
        assert from_model != to_model

    def hedge_ended(self, result: str) -> None:
        self.hedges.append(result)


class Running:
    """One real walk."""

    def __init__(self, task: asyncio.Task[Answer], exchange: Exchange) -> None:
        self.task = task
        self.exchange = exchange


class RealWorld:
    """Everything real, and the fakes around it."""

    def __init__(self) -> None:
        self.loop = TurnedLoop()
        self.loop.now = 1000.0
        self.upstreams = Upstreams(self.loop)
        self.refusals: dict[tuple[int, str], Exception] = {}
        self.observer = Counted()
        policy = HealthPolicy(FAILURES_MAX, BACKOFF_S, lambda: 1.0)
        self.health = ProviderHealthCache(SEATS, policy, self.loop)
        self.admission = Admission(SEATS, QueuePolicy(WAITING_MAX, QUEUE_S), self.loop)
        entries = {name: self._entry(name) for name in SEATS}
        preparation = Preparation(self.upstreams, None, self.loop)  # type: ignore[arg-type]
        ways = Ways(self.upstreams, preparation, self.loop)
        guards = Guards(self.health, self.admission, Known())  # type: ignore[arg-type]
        limits = WalkLimits(CONNECT_S, 5.0, TOTAL_S, None)
        self.router = ProviderRouter(ways, entries, guards, limits, self.observer)  # type: ignore[arg-type]

    def _entry(self, name: str) -> ProviderEntry:
        provider = Told(name, self.refusals) if name != "gone" else None
        return ProviderEntry(name, provider, STREAM_FIRST_S, max_concurrent=SEATS[name])  # type: ignore[arg-type]

    def begin(self, number: int, route: Route, client_s: float | None, *, stream: bool, needs: bool) -> Running:
        fields = {"tools": msgspec.Raw(b"[1]")} if needs else {}
        request = ChatRequest(fields, str(number), stream, include_usage=False)
        exchange = Exchange(str(number), self.loop.now)
        return Running(self.loop.create_task(self.router.answer(request, route, exchange, client_s)), exchange)

    def settle(self) -> None:
        """Run everything that is ready, and what that makes ready, at this instant."""
        loop = self.loop
        while True:
            loop.call_soon(loop.stop)
            loop.run_forever()
            if not loop._ready:  # type: ignore[attr-defined]
                return

    def do(self, work: Any) -> Any:
        """Run something that does not wait."""
        return self.loop.run_until_complete(work)


def refusal(word: str) -> Exception:
    """Why a request cannot be written for a provider."""
    return {"unable": ERRORS["unable"](), "unfit": RequestError("no such part"), "bug": ValueError("ours")}[word]
