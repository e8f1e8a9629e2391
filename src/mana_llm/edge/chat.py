"""`POST /v1/chat/completions`: one request's way through the twelve stops."""

import asyncio
from typing import Final

from mana_llm.edge.headers import PROMPT_TRUNCATED, answer_headers
from mana_llm.edge.reply import JSON_TYPE, Receive, Scope, Send, failure_of, send_whole
from mana_llm.edge.route import LIMIT_HEADER, ChatServices, ModelRoute, client_limit_s, plain_limit_s
from mana_llm.edge.soft_commit import SoftCommit
from mana_llm.edge.streamed import StreamedReply
from mana_llm.routing.answer import Answer
from mana_llm.routing.estimate import estimated_usage
from mana_llm.schema.chat import ChatRequest, Identity
from mana_llm.schema.errors import GatewayError, StoppingError
from mana_llm.schema.events import Exchange

BEAT_S_MIN: Final = 0.1
"""Seconds between keep-alives that no client's impatience can make less."""

__all__ = ["Chat", "ChatServices"]


class Chat(ModelRoute):
    """The route, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        exchange: Exchange = scope["exchange"]
        request = services.dialect.decode_chat(await self._body(exchange, scope, receive))
        exchange.stream = request.stream
        if request.stream:
            await self._streamed(scope, send, request)
            return
        route = self._route(exchange, request, "chat")
        client_s = plain_limit_s(scope["given"]) if LIMIT_HEADER in scope["given"] else None
        answer = await services.router.answer(request, route, exchange, client_s)
        await self._send_whole(send, exchange, answer)

    async def _send_whole(self, send: Send, exchange: Exchange, answer: Answer) -> None:
        services, completion = self._services, answer.completion
        if completion is None:
            raise TypeError("an answer is a completion or a stream")
        if exchange.cache != "hit":
            exchange.usage = completion.usage
        exchange.prompt_cut = completion.prompt_cut
        identity = Identity(f"chatcmpl-{exchange.request_id}", int(services.clock.wall_s()))
        body = services.dialect.encode_chat(completion, answer.target.label, identity)
        headers = answer_headers(exchange, answer, JSON_TYPE, services.clock.now_s())
        if completion.prompt_cut:
            headers.append(PROMPT_TRUNCATED)
        await send_whole(send, exchange, headers, body)

    async def _streamed(self, scope: Scope, send: Send, request: ChatRequest) -> None:
        services, exchange = self._services, scope["exchange"]
        route = self._route(exchange, request, "chat")
        reply = StreamedReply(services, send, exchange, request)
        answer: Answer | None = None
        try:
            given, every_s = scope["given"], services.soft_commit_s
            early = _soft_commit(reply, every_s, client_limit_s(given))
            # Without signs of life the client waits for the first content as for a plain answer.
            first_s = None if every_s or LIMIT_HEADER not in given else plain_limit_s(given)
            try:
                answer = await services.router.answer(request, route, exchange, first_s)
            finally:
                await early.stop()
            await reply.begin(answer)
            await reply.relay(answer)
        except GatewayError as error:
            if not reply.begun:
                raise
            await reply.fail(error)
        except asyncio.CancelledError:
            if reply.begun and services.lifecycle.cutting:
                await reply.fail(StoppingError())
            raise
        except Exception as error:
            if not reply.begun:
                raise
            # The status has left already: the client learns of a bug of ours within the stream.
            await reply.fail(failure_of(error, exchange, services.lifecycle.shed))
        finally:
            if answer and answer.stream:
                # However this ends, the upstream does not go on working for nobody.
                answer.close()
                # Even if the client left before its head: who answered is paid.
                exchange.target = answer.target
                exchange.usage = answer.stream.usage
                exchange.prompt_cut = answer.stream.prompt_cut
                if exchange.usage is None and not answer.stream.done:
                    # It was cut before its usage came, and what it cost until then was spent.
                    exchange.usage = estimated_usage(request, answer.stream.relayed_chars)
                    exchange.estimated = True


def _soft_commit(reply: StreamedReply, every_s: float, client_s: float | None) -> SoftCommit:
    """Signs of life for the client of a stream: sooner than the gateway's own habit, if it is less patient."""
    if every_s and client_s is not None:
        every_s = min(every_s, max(client_s / 2, BEAT_S_MIN))
    return SoftCommit(reply.keep_alive, every_s)
