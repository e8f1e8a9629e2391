"""What the routes that ask a model share: reading, resolving, walking, and the headers of an answer."""

import re
from collections.abc import Awaitable
from typing import Final
from urllib.parse import quote

import msgspec

from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.reply import Receive, Scope, read_body
from mana_llm.ports import Clock, Dialect
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.routing.answer import Answer
from mana_llm.routing.attempt import Request
from mana_llm.routing.models import ModelDirectory
from mana_llm.routing.router import ProviderRouter, WalkLimits
from mana_llm.schema.errors import RequestError
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Route
from mana_llm.schema.wire import Headers

IGNORED_BYTES_MAX: Final = 1024
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch


class ChatServices(msgspec.Struct, frozen=True):
    """What a route needs."""

    dialect: Dialect
    aliases: AliasRegistry
    router: ProviderRouter
    models: ModelDirectory
    clock: Clock
    limits: WalkLimits
    lifecycle: Lifecycle


class ModelRoute:
    """The part of the way that is the same whatever a model is asked for."""

    def __init__(self, services: ChatServices) -> None:
        self._services = services
        self._version = services.aliases.version.encode()

    def _body(self, exchange: Exchange, scope: Scope, receive: Receive) -> Awaitable[bytes]:
        """The request's body. Raises RequestError 415 if it says that it is no JSON."""
        check_media_type(scope["given"].get(b"content-type"))
        exchange.config = self._services.aliases.version
        return read_body(receive)

    def _walk(self, exchange: Exchange, request: Request) -> Awaitable[Answer]:
        """Resolve the model and walk its chain."""
        services = self._services
        route = services.aliases.resolve(request.model)
        self._label(exchange, route)
        return services.router.answer(request, route, services.limits)

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

    def _whole(self, exchange: Exchange, answer: Answer) -> None:
        """Account for an answer that is about to be sent in one piece."""
        exchange.status = 200
        exchange.overhead_s = self._services.clock.now_s() - exchange.began_s - answer.waited_s

    def _headers(self, exchange: Exchange, answer: Answer, media_type: bytes) -> Headers:
        """The headers of an answer; the exchange learns who gave it."""
        exchange.target = answer.target
        exchange.attempts = answer.attempts
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
