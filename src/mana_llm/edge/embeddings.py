"""`POST /v1/embeddings`: the same way as a plain chat."""

from mana_llm.edge.headers import answer_headers
from mana_llm.edge.reply import JSON_TYPE, Receive, Scope, Send, send_whole
from mana_llm.edge.route import ModelRoute, plain_limit_s
from mana_llm.schema.events import Exchange


class EmbeddingsRoute(ModelRoute):
    """The route, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = self._services.dialect
        exchange: Exchange = scope["exchange"]
        request = dialect.decode_embeddings(await self._body(exchange, scope, receive))
        route = self._route(exchange, request, "embeddings")
        answer = await self._services.router.answer(request, route, exchange, plain_limit_s(scope["given"]))
        embeddings = answer.embeddings
        if embeddings is None:
            raise TypeError("an answer to a request for embeddings holds embeddings")
        if exchange.cache != "hit":
            exchange.usage = embeddings.usage
            exchange.estimated = embeddings.estimated
        body = dialect.encode_embeddings(embeddings, answer.target.label)
        headers = answer_headers(exchange, answer, JSON_TYPE, self._services.clock.now_s())
        if embeddings.estimated:
            headers.append((b"x-mana-llm-usage", b"estimated"))
        await send_whole(send, exchange, headers, body)
