"""What the routes that ask a model share: reading, resolving, walking, and the headers of an answer."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from mana_llm.edge.freshness import CACHE_HEADER, wants_fresh
from mana_llm.edge.lanes import LANE_HEADER, lane_of
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.reply import Receive, Scope
from mana_llm.ports import Clock, Dialect
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.routing.attempt import Request
from mana_llm.routing.flight import Answering
from mana_llm.routing.models import ModelDirectory
from mana_llm.schema.errors import ClientLeftError, GatewayError, RequestError
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Route

LIMIT_HEADER: Final = b"x-stainless-read-timeout"
ASKED_CHARS_MAX: Final = 200
ANSWERED_BEFORE_S: Final = 0.025
"""Seconds before a client gives up that it is answered."""


class ChatServices(msgspec.Struct, frozen=True):
    """What a route needs. `soft_commit_s` is when a stream is begun although nothing has come, 0.0 for never."""

    dialect: Dialect
    aliases: AliasRegistry
    router: Answering
    models: ModelDirectory
    clock: Clock
    lifecycle: Lifecycle
    soft_commit_s: float


class ModelRoute:
    """The part of the way that is the same whatever a model is asked for."""

    def __init__(self, services: ChatServices) -> None:
        self._services = services

    async def _body(self, exchange: Exchange, scope: Scope, receive: Receive) -> bytes:
        """The request's whole body.

        Raises:
            RequestError: if its headers say what cannot be served.
            GatewayError: what the connection refuses of the body, which is too large, too late or malformed.
            ClientLeftError: if the client leaves before it is whole.
        """
        given = scope["given"]
        check_media_type(given.get(b"content-type"))
        if LANE_HEADER in given:
            exchange.lane = lane_of(given, exchange.lane)
        if CACHE_HEADER in given:
            exchange.fresh = wants_fresh(scope["headers"])
        try:
            message = await receive()
        except GatewayError:
            # Whatever is wrong with the body, it was the client that was waited for.
            exchange.waited_s = self._services.clock.now_s() - exchange.began_s
            raise
        exchange.walks = True
        body: bytes = message.get("body", b"")
        # Our own server gives it in one piece; others may not.
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        if message["type"] != "http.request":
            raise ClientLeftError
        return body

    def _route(self, exchange: Exchange, request: Request, kind: Literal["chat", "embeddings"]) -> Route:
        """Resolve the model, and name the request in metrics and log."""
        exchange.asked = request.model[:ASKED_CHARS_MAX]
        # One look: a reload between two would mix the old and the new.
        table = self._services.aliases.table
        exchange.config = table.version
        route = table.resolve(request.model, kind)
        exchange.alias = route.alias
        # Only by a name that is known here: clients cannot create series.
        asked = route.asked or table.default
        knows = self._services.models.knows
        if knows(asked):
            exchange.model = asked
        elif knows(route.chain[0].label):
            exchange.model = route.chain[0].label
        return route


def client_limit_s(given: Mapping[bytes, bytes]) -> float | None:
    """The client's own limit on silence, from `x-stainless-read-timeout`; None if it has none that makes sense.

    Source: openai-python 3.x sends it with every request, in seconds.
    """
    text = given.get(LIMIT_HEADER)
    if text is None:
        return None
    try:
        limit_s = float(text)
    except ValueError:
        return None
    return limit_s if 0.0 < limit_s < float("inf") else None


def plain_limit_s(given: Mapping[bytes, bytes]) -> float | None:
    """What a client's limit on silence leaves for a whole answer: a little less, so that it hears why there is none."""
    limit_s = client_limit_s(given)
    return None if limit_s is None else max(limit_s - ANSWERED_BEFORE_S, limit_s / 2)


def check_media_type(content_type: bytes | None) -> None:
    """Raises RequestError 415 for a body that says it is something else than JSON."""
    if content_type is not None and b"json" not in content_type.lower():
        message = "The body must be JSON; send `Content-Type: application/json`."
        raise RequestError(message, status=415, code="unsupported_media_type")
