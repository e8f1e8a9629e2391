"""The application: finds the route, names the caller and the request, and answers whatever goes wrong."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from mana_llm.edge.auth import Authenticator
from mana_llm.edge.headers import common_headers
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.reply import Receive, Scope, Send, send_error
from mana_llm.kit.ids import Ids, sane_id
from mana_llm.ports import Clock, Observer
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.schema.errors import GatewayError, InternalError, MethodError, RequestError, StoppingError
from mana_llm.schema.events import Exchange

_log: Final = logging.getLogger(__name__)

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS: Final = frozenset(("/livez", "/readyz", "/health", "/livez/", "/readyz/", "/health/"))
"""Answered without a key: orchestrators and load balancers have none."""
PREFIXES: Final = ("/v1", "", "/openai/v1", "/v1/v1")
"""Where clients look for the API, depending on what their base URL was set to."""


class Endpoint:
    """The methods of one path. Anything else is a 405 that says which there are."""

    def __init__(self, methods: Mapping[str, Handler]) -> None:
        self._methods = dict(methods)
        self._allowed = ", ".join((*methods, "OPTIONS"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._methods.get(scope["method"])
        if handler is None:
            if scope["method"] != "OPTIONS":
                raise MethodError(scope["method"], self._allowed)
            handler = self._options
        await handler(scope, receive, send)

    async def _options(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["exchange"]
        exchange.status = 204
        headers = [(b"allow", self._allowed.encode()), *common_headers(exchange)]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class Services(msgspec.Struct, frozen=True):
    """What the application itself needs; `start` and `stop` are run when the server starts and stops. Of `aliases`
    every answer tells the version.
    """

    authenticator: Authenticator
    observer: Observer
    clock: Clock
    ids: Ids
    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    lifecycle: Lifecycle
    aliases: AliasRegistry


class Gateway:
    """The outermost ASGI callable. Routes find the `exchange` and the headers as a dict (`given`) in the scope.

    `api` paths are served under every prefix, `ops` paths as they are. A path that ends in a slash stands for
    everything below it, which its route finds as `rest` in the scope.
    """

    def __init__(self, services: Services, api: Mapping[str, Endpoint], ops: Mapping[str, Endpoint]) -> None:
        self._services = services
        # Probes and scrapes are no client's requests: they would drown the figures of those that are.
        self._ops = frozenset((*ops, *(f"{path}/" for path in ops)))
        paths = {prefix + path: endpoint for prefix in PREFIXES for path, endpoint in api.items()}
        self._trees = {path: endpoint for path, endpoint in paths.items() if path.endswith("/")}
        self._paths = {path: endpoint for path, endpoint in (*paths.items(), *ops.items()) if path not in self._trees}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing but a cancellation leaves here."""
        services = self._services
        if scope["type"] != "http":
            await _lifespan(services, receive, send)
            return
        given = dict(scope["headers"])
        scope["given"] = given
        scope["exchange"] = exchange = _begin(services, given)
        exchange.config = services.aliases.table.version
        if scope.get("client"):
            exchange.peer = scope["client"][0]
        observed = scope["path"] not in self._ops
        if observed:
            services.observer.request_began()
        try:
            path = scope["path"]
            if path not in OPEN_PATHS and scope["method"] != "OPTIONS":
                exchange.caller = services.authenticator.caller(given, scope["headers"])
                exchange.lane = services.authenticator.lane(exchange.caller)
            endpoint = self._paths.get(path) or self._find(path, scope)
            await endpoint(scope, receive, send)
        except asyncio.CancelledError:
            if services.lifecycle.cutting and not exchange.status:
                await send_error(send, exchange, StoppingError())
            else:
                exchange.status = 499
            raise
        except GatewayError as error:
            await send_error(send, exchange, error)
        except Exception:  # noqa: BLE001 - whatever a bug raises, the client gets an answer
            # A bug of ours: the log gets the traceback, the client an answer.
            _log.exception("request %s failed", exchange.request_id)
            await send_error(send, exchange, InternalError("The gateway failed; its log says why."))
        finally:
            if observed:
                exchange.ended_s = services.clock.now_s()
                services.observer.request_ended(exchange)

    def _find(self, path: str, scope: Scope) -> Endpoint:
        """The endpoint of a path that is not in the table as it stands.

        Raises:
            RequestError: 404 if there is none.
        """
        path = path.rstrip("/")
        endpoint = self._paths.get(path)
        if endpoint:
            return endpoint
        for tree, below in self._trees.items():
            if path.startswith(tree):
                scope["rest"] = path[len(tree) :]
                return below
        message = f"There is nothing at {path[:128]!a}. The API is at /v1/chat/completions and /v1/models."
        raise RequestError(message, status=404, code="not_found")


async def _lifespan(services: Services, receive: Receive, send: Send) -> None:
    """The server's start and stop, as ASGI's lifespan protocol tells of them."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await services.start()
            await send({"type": "lifespan.startup.complete"})
        else:
            await services.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _begin(services: Services, given: dict[bytes, bytes]) -> Exchange:
    """Name the request: by the client's own id if it can be shown, else by ours."""
    request_id = given.get(b"x-request-id")
    name = sane_id(request_id) if request_id else None
    return Exchange(name or services.ids.next(), services.clock.now_s())
