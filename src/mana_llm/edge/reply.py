"""Answers: headers that every one has, and the short ones of the other routes."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from mana_llm.edge.headers import common_headers, failure_headers
from mana_llm.schema.errors import ClientLeftError, GatewayError
from mana_llm.schema.events import Exchange
from mana_llm.schema.wire import Headers, encode_json

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_TYPE: Final = b"application/json"


async def read_body(receive: Receive) -> bytes:
    """The request's whole body. Our own server gives it in one piece; others may not.

    Raises:
        ClientLeftError: if the client leaves before it is whole.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    if message["type"] != "http.request":
        raise ClientLeftError
    return body


async def send_whole(send: Send, exchange: Exchange, headers: Headers, body: bytes) -> None:
    """Send one whole answer with `exchange.status`."""
    headers += common_headers(exchange)
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": exchange.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, exchange: Exchange, value: Any, status: int = 200) -> None:
    """Send `value` as JSON."""
    exchange.status = status
    await send_whole(send, exchange, [(b"content-type", JSON_TYPE)], encode_json(value))


async def send_error(send: Send, exchange: Exchange, error: GatewayError) -> None:
    """Send `error` in OpenAI's shape."""
    exchange.status = error.status
    exchange.error = error.reason
    headers = [(name.encode(), value.encode()) for name, value in error.headers().items()]
    if exchange.walks:
        headers += failure_headers(exchange)
    headers.append((b"content-type", JSON_TYPE))
    await send_whole(send, exchange, headers, encode_json(error.body()))
