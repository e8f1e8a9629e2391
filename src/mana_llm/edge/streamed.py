"""One streamed answer on its way to the client: its head, signs of life, chunks, and its end."""

from typing import Final

from mana_llm.edge.headers import PROMPT_TRUNCATED, answer_headers, common_headers, early_timing
from mana_llm.edge.reply import Send
from mana_llm.edge.route import ChatServices
from mana_llm.ports import ChatStreamEncoder
from mana_llm.routing.answer import Answer
from mana_llm.schema.chat import ChatRequest, Identity
from mana_llm.schema.errors import GatewayError
from mana_llm.schema.events import Exchange
from mana_llm.schema.wire import Headers

_STREAM_HEADERS: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class StreamedReply:
    """`begun` says whether the head has left. Nothing of what was sent is ever taken back."""

    __slots__ = ("_encoder", "_exchange", "_request", "_send", "_services", "begun")

    def __init__(self, services: ChatServices, send: Send, exchange: Exchange, request: ChatRequest) -> None:
        self._services = services
        self._send = send
        self._exchange = exchange
        self._request = request
        self._encoder: ChatStreamEncoder | None = None
        self.begun = False

    async def keep_alive(self, waited_s: float) -> None:
        """Commit softly: a head that says nothing about who will answer, and a chunk without content. The walk began
        `waited_s` before the first of these.
        """
        exchange = self._exchange
        encoder = self._encoder or self._open(self._asked())
        if not self.begun:
            headers = [
                (b"content-type", encoder.media_type),
                (b"x-mana-llm-cache", b"off"),
                early_timing(exchange, self._services.clock.now_s(), waited_s),
            ]
            await self._head(headers)
            exchange.status = 200
        await self._send({"type": "http.response.body", "body": encoder.keep_alive(), "more_body": True})

    async def begin(self, answer: Answer) -> None:
        """The head: the first content has come, so it will be an answer. A head that has left stays as it was."""
        exchange = self._exchange
        exchange.first_s = now_s = self._services.clock.now_s()
        if self._encoder:
            self._encoder.answered_by(answer.target.label)
        if self.begun:
            answer_headers(exchange, answer, b"", now_s)
            return
        encoder = self._encoder or self._open(answer.target.label)
        headers = answer_headers(exchange, answer, encoder.media_type, now_s)
        if answer.stream and answer.stream.prompt_cut:
            headers.append(PROMPT_TRUNCATED)
        await self._head(headers)

    async def relay(self, answer: Answer) -> None:
        """Chunk by chunk; `await send` is the backpressure, and there is no queue.

        Raises:
            ProviderError: if the answer breaks.
        """
        stream, encoder, send = answer.stream, self._encoder, self._send
        if stream is None or encoder is None:
            raise TypeError("a streamed answer is relayed after its head")
        events = b""
        while not stream.done:
            events = encoder.encode(await stream.read())
            if events and not stream.done:
                await send({"type": "http.response.body", "body": events, "more_body": True})
        # The last events travel with the end; an answer that is whole and empty has none.
        await send({"type": "http.response.body", "body": events + encoder.end()})

    async def fail(self, error: GatewayError) -> None:
        """End a stream whose head has left: one event that says why, and the end marker."""
        self._exchange.error = error.reason
        encoder = self._encoder or self._open(self._asked())
        await self._send({"type": "http.response.body", "body": encoder.fail(error)})

    async def _head(self, headers: Headers) -> None:
        headers += _STREAM_HEADERS
        headers += common_headers(self._exchange)
        # Where an earlier answer is still on its way on this connection, this waits, and may be cancelled.
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.begun = True

    def _asked(self) -> str:
        return self._request.model or self._services.aliases.default

    def _open(self, model: str) -> ChatStreamEncoder:
        identity = Identity(f"chatcmpl-{self._exchange.request_id}", int(self._services.clock.wall_s()))
        self._encoder = self._services.dialect.open_stream(self._request, model, identity)
        return self._encoder
