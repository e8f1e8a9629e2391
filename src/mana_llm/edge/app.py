"""The application: finds the route, names the caller and the request, and answers whatever goes wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from mana_llm.edge.auth import Authenticator
from mana_llm.edge.cross_origin import CrossOrigin, is_preflight
from mana_llm.edge.headers import common_headers
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.reply import Receive, Scope, Send, failure_of, send_error, send_whole, timed
from mana_llm.kit.ids import Ids, sane_id
from mana_llm.ports import Clock, Observer
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.schema.errors import GatewayError, MethodError, RequestError, StoppingError
from mana_llm.schema.events import Exchange

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS: Final = frozenset(("/livez", "/readyz", "/health", "/livez/", "/readyz/", "/health/"))
"""Answered without a key: orchestrators and load balancers have none."""
PREFIXES: Final = ("/v1", "", "/openai/v1", "/v1/v1")
"""Where clients look for the API, depending on what their base URL was set to."""


class Endpoint:
    """The methods of one path. Anything else is a 405 that says which there are, and OPTIONS is `options`.

    `walks` says that its answers tell by themselves where the time went.
    """

    def __init__(self, methods: Mapping[str, Handler], *, walks: bool = False) -> None:
        self._methods = dict(methods)
        self._allowed = ", ".join((*methods, "OPTIONS"))
        self.walks = walks

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        handler = self._methods.get(scope["method"])
        if handler is None:
            raise MethodError(scope["method"], self._allowed)
        return handler(scope, receive, send)

    async def options(self, exchange: Exchange, send: Send) -> None:
        """Say which methods there are."""
        exchange.status = 204
        headers = [(b"allow", self._allowed.encode()), *common_headers(exchange)]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class Services(msgspec.Struct, frozen=True):
    """What the application itself needs; `start` and `stop` are run when the server starts and stops. Of `aliases`
    every answer tells the version. Pages of other origins may call where `cross_origin` is given.
    """

    authenticator: Authenticator
    observer: Observer
    clock: Clock
    ids: Ids
    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    lifecycle: Lifecycle
    aliases: AliasRegistry
    cross_origin: CrossOrigin | None = None


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
        path = scope["path"]
        scope["given"] = given = dict(scope["headers"])
        asked_id = given.get(b"x-request-id")
        # By the client's own id if it can be shown, else by ours.
        request_id = (sane_id(asked_id) if asked_id else None) or services.ids.next()
        scope["exchange"] = exchange = Exchange(request_id, services.clock.now_s())
        exchange.config = services.aliases.table.version
        client = scope.get("client")
        exchange.peer = client[0] if client else ""
        observed = path not in self._ops
        if observed:
            services.observer.request_began()
        if services.cross_origin:
            send = services.cross_origin.telling(scope, send)
        now_s = services.clock.now_s
        try:
            if scope["method"] == "OPTIONS":
                await self._options(scope, timed(send, exchange, now_s))
            else:
                if path not in OPEN_PATHS:
                    exchange.caller = services.authenticator.caller(given, scope["headers"])
                    exchange.lane = services.authenticator.lane(exchange.caller)
                endpoint = self._paths.get(path) or self._find(path, scope)
                await endpoint(scope, receive, send if endpoint.walks else timed(send, exchange, now_s))
        except asyncio.CancelledError:
            await self._cut(exchange, send)
            raise
        except GatewayError as error:
            await send_error(send, exchange, error, now_s())
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, the client gets an answer
            await send_error(send, exchange, failure_of(error, exchange, services.lifecycle.shed), now_s())
        finally:
            if observed:
                exchange.ended_s = now_s()
                services.observer.request_ended(exchange)

    async def _cut(self, exchange: Exchange, send: Send) -> None:
        """A cancelled request: its client has left, unless it is we who stop."""
        if not self._services.lifecycle.cutting:
            exchange.status = 499
        elif exchange.status:
            # Its head has left, and so may have the news within the stream.
            exchange.error = exchange.error or StoppingError().reason
        else:
            await send_error(send, exchange, StoppingError(), self._services.clock.now_s())

    async def _options(self, scope: Scope, send: Send) -> None:
        """Answer a page's preflight, or say which methods there are; nobody needs a key for it."""
        exchange, cross_origin = scope["exchange"], self._services.cross_origin
        if cross_origin and is_preflight(scope["given"]):
            headers, body = cross_origin.preflight(scope)
            exchange.status = 200
            await send_whole(send, exchange, headers, body)
        else:
            path = scope["path"]
            endpoint = self._paths.get(path) or self._find(path, scope)
            await endpoint.options(exchange, send)

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
