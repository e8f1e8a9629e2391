"""`POST /v1/chat/completions`: one request's way through the twelve stops."""

import asyncio
import re
from typing import Final
from urllib.parse import quote

import msgspec

from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.reply import Receive, Scope, Send, read_body, send_whole
from mana_llm.ports import ChatStreamEncoder, Clock, Dialect
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.routing.answer import Answer, LiveStream
from mana_llm.routing.models import ModelDirectory
from mana_llm.routing.router import ProviderRouter, WalkLimits
from mana_llm.schema.chat import Identity
from mana_llm.schema.errors import ProviderError, RequestError, StoppingError
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Route
from mana_llm.schema.wire import Headers

IGNORED_BYTES_MAX: Final = 1024
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch
_STREAM_HEADERS: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class ChatServices(msgspec.Struct, frozen=True):
    """What the route needs."""

    dialect: Dialect
    aliases: AliasRegistry
    router: ProviderRouter
    models: ModelDirectory
    clock: Clock
    limits: WalkLimits
    lifecycle: Lifecycle


class Chat:
    """The route, as an ASGI application."""

    def __init__(self, services: ChatServices) -> None:
        self._services = services
        self._version = services.aliases.version.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        exchange: Exchange = scope["exchange"]
        check_media_type(scope["given"].get(b"content-type"))
        exchange.config = services.aliases.version
        request = services.dialect.decode_chat(await read_body(receive))
        route = services.aliases.resolve(request.model)
        self._label(exchange, route)
        answer = await services.router.answer(request, route, services.limits)
        exchange.target = answer.target
        exchange.attempts = answer.attempts
        if answer.stream is None:
            await self._whole(send, exchange, answer)
            return
        try:
            encoder = services.dialect.open_stream(request, answer.target.label, self._identity(exchange))
            await self._begin(send, exchange, answer, encoder.media_type)
            await self._relay(send, answer.stream, encoder)
        finally:
            # However this ends, the upstream does not go on working for nobody.
            exchange.usage = answer.stream.usage
            answer.stream.close()

    async def _whole(self, send: Send, exchange: Exchange, answer: Answer) -> None:
        services, completion = self._services, answer.completion
        if completion is None:
            raise TypeError("an answer is a completion or a stream")
        exchange.usage = completion.usage
        body = services.dialect.encode_chat(completion, answer.target.label, self._identity(exchange))
        headers = self._headers(answer, b"application/json")
        exchange.status = 200
        exchange.overhead_s = services.clock.now_s() - exchange.began_s - answer.waited_s
        await send_whole(send, exchange, headers, body)

    async def _begin(self, send: Send, exchange: Exchange, answer: Answer, media_type: bytes) -> None:
        """The status line of a stream: its first content has come, so it will be an answer."""
        exchange.status = 200
        exchange.first_s = self._services.clock.now_s()
        exchange.overhead_s = exchange.first_s - exchange.began_s - answer.waited_s
        headers = self._headers(answer, media_type)
        headers += _STREAM_HEADERS
        headers.append((b"x-request-id", exchange.request_id.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _relay(self, send: Send, stream: LiveStream, encoder: ChatStreamEncoder) -> None:
        """Chunk by chunk; `await send` is the backpressure, and there is no queue."""
        try:
            events = b""
            while not stream.done:
                events = encoder.encode(await stream.read())
                if events and not stream.done:
                    await send({"type": "http.response.body", "body": events, "more_body": True})
            # The last events travel with the end; an answer that is whole and empty has none.
            await send({"type": "http.response.body", "body": events + encoder.end()})
        except ProviderError as error:
            await send({"type": "http.response.body", "body": encoder.fail(error)})
        except asyncio.CancelledError:
            if self._services.lifecycle.cutting:
                await send({"type": "http.response.body", "body": encoder.fail(StoppingError())})
            raise

    def _identity(self, exchange: Exchange) -> Identity:
        return Identity(f"chatcmpl-{exchange.request_id}", int(self._services.clock.wall_s()))

    def _label(self, exchange: Exchange, route: Route) -> None:
        """Name the request in the metrics, but only by a name that is known: clients cannot create series."""
        exchange.alias = route.alias
        asked = route.asked or self._services.aliases.default
        label = route.chain[0].label
        knows = self._services.models.knows
        if knows(asked):
            exchange.model = asked
        elif knows(label):
            exchange.model = label

    def _headers(self, answer: Answer, media_type: bytes) -> Headers:
        headers = [
            (b"content-type", media_type),
            (b"x-mana-llm-resolved", header_text(answer.target.label)),
            (b"x-mana-llm-attempts", b"%d" % answer.attempts),
            (b"x-mana-llm-config", self._version),
            (b"x-mana-llm-cache", b"off"),
        ]
        if answer.ignored:
            headers.append((b"x-mana-llm-ignored", ignored_header(answer.ignored)))
        return headers


def check_media_type(content_type: bytes | None) -> None:
    """Raises RequestError 415 for a body that says it is something else than JSON."""
    if content_type is not None and b"json" not in content_type.lower():
        message = "The body must be JSON; send `Content-Type: application/json`."
        raise RequestError(message, status=415, code="unsupported_media_type")


def header_text(text: str) -> bytes:
    """A model's name as a header value: what is not printable ASCII is percent-encoded."""
    return text.encode() if text.isascii() and text.isprintable() else quote(text, safe="/:.-_@ ").encode()


def ignored_header(names: tuple[str, ...]) -> bytes:
    """The fields' names, sorted; JSON keys are client data, so an odd one is written `?`."""
    shown = sorted({name if _PLAIN_NAME(name) else "?" for name in names})
    text = ", ".join(shown).encode()
    return text if len(text) <= IGNORED_BYTES_MAX else text[:IGNORED_BYTES_MAX].rpartition(b",")[0]
