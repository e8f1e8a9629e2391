"""Answers: headers that every one has, and the short ones of the other routes."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from mana_llm.edge.headers import common_headers, failure_headers, own_timing
from mana_llm.edge.shed import Shed
from mana_llm.schema.errors import GatewayError, InternalError, MemoryShortError
from mana_llm.schema.events import Exchange
from mana_llm.schema.wire import Headers, encode_json

_log: Final = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_TYPE: Final = b"application/json"


async def send_whole(send: Send, exchange: Exchange, headers: Headers, body: bytes) -> None:
    """Send one whole answer with `exchange.status`."""
    headers += (*common_headers(exchange), (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": exchange.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, exchange: Exchange, value: Any, status: int = 200) -> None:
    """Send `value` as JSON."""
    exchange.status = status
    await send_whole(send, exchange, [(b"content-type", JSON_TYPE)], encode_json(value))


def timed(send: Send, exchange: Exchange, now_s: Callable[[], float]) -> Send:
    """`send`, for a route that asks no model: the head of its answer says how long that took."""

    async def telling(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append(own_timing(exchange, now_s()))
        await send(message)

    return telling


def failure_of(error: Exception, exchange: Exchange, shed: Shed) -> GatewayError:
    """What the client is told of an error that nobody meant. Memory that ran out is counted; the rest is a bug of
    ours: the log gets its traceback.
    """
    if isinstance(error, MemoryError):
        shed.for_memory()
        return MemoryShortError()
    _log.error("request %s failed", exchange.request_id, exc_info=error)
    return InternalError("The gateway failed; its log says why.")


def error_headers(exchange: Exchange, error: GatewayError, now_s: float) -> Headers:
    """What an answer that is sent now says of `error`, besides what every answer says; the exchange learns of it."""
    exchange.status = error.status
    exchange.error = error.reason
    headers = [(name.encode(), value.encode()) for name, value in error.headers().items()]
    return [*headers, *failure_headers(exchange, now_s), (b"content-type", JSON_TYPE)]


async def send_error(send: Send, exchange: Exchange, error: GatewayError, now_s: float) -> None:
    """Send `error` in OpenAI's shape."""
    await send_whole(send, exchange, error_headers(exchange, error, now_s), encode_json(error.body()))
