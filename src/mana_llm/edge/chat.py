"""`POST /v1/chat/completions`: one request's way through the twelve stops."""

import asyncio
from typing import Final

from mana_llm.edge.reply import Receive, Scope, Send, send_whole
from mana_llm.edge.route import ChatServices, ModelRoute
from mana_llm.ports import ChatStreamEncoder
from mana_llm.routing.answer import Answer, LiveStream
from mana_llm.schema.chat import Identity
from mana_llm.schema.errors import ProviderError, StoppingError
from mana_llm.schema.events import Exchange

__all__ = ["Chat", "ChatServices"]

_STREAM_HEADERS: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
# A stream's head has left when its provider says how much of the prompt it read: there, only the metric tells.
_PROMPT_TRUNCATED: Final = (b"x-mana-llm-prompt-truncated", b"true")


class Chat(ModelRoute):
    """The route, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        exchange: Exchange = scope["exchange"]
        request = services.dialect.decode_chat(await self._body(exchange, scope, receive))
        answer = await self._walk(exchange, request)
        if answer.stream is None:
            await self._send_whole(send, exchange, answer)
            return
        try:
            encoder = services.dialect.open_stream(request, answer.target.label, self._identity(exchange))
            await self._begin(send, exchange, answer, encoder.media_type)
            await self._relay(send, answer.stream, encoder)
        finally:
            # However this ends, the upstream does not go on working for nobody.
            answer.stream.close()
            exchange.usage = answer.stream.usage
            exchange.prompt_cut = answer.stream.prompt_cut

    async def _send_whole(self, send: Send, exchange: Exchange, answer: Answer) -> None:
        services, completion = self._services, answer.completion
        if completion is None:
            raise TypeError("an answer is a completion or a stream")
        exchange.usage = completion.usage
        exchange.prompt_cut = completion.prompt_cut
        body = services.dialect.encode_chat(completion, answer.target.label, self._identity(exchange))
        headers = self._headers(exchange, answer, b"application/json")
        if completion.prompt_cut:
            headers.append(_PROMPT_TRUNCATED)
        self._whole(exchange, answer)
        await send_whole(send, exchange, headers, body)

    async def _begin(self, send: Send, exchange: Exchange, answer: Answer, media_type: bytes) -> None:
        """The status line of a stream: its first content has come, so it will be an answer."""
        exchange.status = 200
        exchange.first_s = self._services.clock.now_s()
        exchange.overhead_s = exchange.first_s - exchange.began_s - answer.waited_s
        headers = self._headers(exchange, answer, media_type)
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
