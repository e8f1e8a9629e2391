"""`POST /v1/embeddings`: the same way as a plain chat."""

from mana_llm.edge.reply import JSON_TYPE, Receive, Scope, Send, send_whole
from mana_llm.edge.route import ModelRoute
from mana_llm.schema.events import Exchange


class EmbeddingsRoute(ModelRoute):
    """The route, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = self._services.dialect
        exchange: Exchange = scope["exchange"]
        request = dialect.decode_embeddings(await self._body(exchange, scope, receive))
        answer = await self._walk(exchange, request)
        embeddings = answer.embeddings
        if embeddings is None:
            raise TypeError("an answer to a request for embeddings holds embeddings")
        exchange.usage = embeddings.usage
        body = dialect.encode_embeddings(embeddings, answer.target.label)
        headers = self._headers(exchange, answer, JSON_TYPE)
        if embeddings.estimated:
            headers.append((b"x-mana-llm-usage", b"estimated"))
        self._whole(exchange, answer)
        await send_whole(send, exchange, headers, body)
