"""The upstream client: `ports.Transport` over pooled HTTP/1.1 connections."""

import asyncio
import ssl
from collections.abc import Callable

from mana_llm.kit.outbox import Outbox
from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.wire import Call, Limits, Origin
from mana_llm.upstream.connect import Resolve, resolve
from mana_llm.upstream.connection import Connection
from mana_llm.upstream.dial import Dialler
from mana_llm.upstream.limits import DEFAULT_LIMITS, PoolLimits
from mana_llm.upstream.pool import Pool
from mana_llm.upstream.proxy import Proxies
from mana_llm.upstream.response import Response
from mana_llm.upstream.tls import Tls

_NO_PROXIES = Proxies()
CONNECT_S_MIN = 1e-6
"""Opening a connection takes at least so long, whatever the clock has seen of it: nothing means that it was open."""


def soon(callback: Callable[[], None]) -> None:
    """Call back in the next turn of the loop that runs."""
    asyncio.get_running_loop().call_soon(callback)


class Upstream:
    """Carries calls to their origins. Follows no redirect, keeps no cookie, reads no environment.

    Belongs to the event loop that first sends. `resolve` may be replaced where names should not be looked up;
    `outbox` is shared with whoever else writes in this loop.
    """

    def __init__(
        self,
        proxies: Proxies = _NO_PROXIES,
        ssl_context: ssl.SSLContext | None = None,
        limits: PoolLimits = DEFAULT_LIMITS,
        resolve: Resolve = resolve,
        outbox: Outbox | None = None,
    ) -> None:
        self._proxies = proxies
        self._tls = Tls(ssl_context)
        self._limits = limits
        self._resolve = resolve
        self._outbox = outbox or Outbox(soon)
        self.now_s: Callable[[], float] | None = None
        """The clock that connecting is measured by; else the loop's, whose steps may be longer than it takes."""
        self._pools: dict[Origin, Pool] = {}

    def __repr__(self) -> str:
        return f"<Upstream {list(self._pools.values())}>"

    async def send(self, call: Call, limits: Limits) -> Response:
        """As `ports.Transport.send`. A call that a used connection did not survive is sent once more where
        `Response.stale` allows it.

        Raises:
            ValueError: if method, target or host of the endpoint are not plain visible ASCII.
        """
        endpoint = call.endpoint
        pool = self._pools.get(endpoint.origin) or self._open_pool(endpoint.origin)
        head = pool.head(endpoint)
        retried = False
        began_at = pool.loop.time()
        connect_s, connection = 0.0, pool.take(began_at)
        if connection is None:
            connect_s, connection = await self._connected(pool, limits, began_at + limits.total_s)
        while True:
            response = Response(connection, endpoint.origin, limits, began_at)
            response.connect_s = connect_s
            connection.start(response, head, call.body)
            try:
                await response.head_came()
            except ProviderProtocolError:
                if retried or not response.stale(endpoint.method):
                    raise
            else:
                return response
            retried = True
            # The other idle connections are likely to be as dead as this one was.
            pool.make_room()
            connect_s, connection = await self._connected(pool, limits, began_at + limits.total_s)

    async def close(self) -> None:
        """As `ports.Transport.close`; calls that wait or come later fail."""
        for pool in self._pools.values():
            pool.close()
        # Transports close their sockets in the loop's next turn.
        await asyncio.sleep(0)

    async def _connected(self, pool: Pool, limits: Limits, total_at: float) -> tuple[float, Connection]:
        """A connection, and the seconds that it took; 0.0 for one that somebody else gave back meanwhile."""
        now_s = self.now_s or pool.loop.time
        began_s = now_s()
        connection = await pool.open(limits, total_at)
        return 0.0 if connection.served else max(now_s() - began_s, CONNECT_S_MIN), connection

    def _open_pool(self, origin: Origin) -> Pool:
        proxy = self._proxies.proxy_for(origin)
        line = proxy.authorization if proxy is not None and origin.scheme == "http" else None
        dialler = Dialler(origin, proxy, self._tls, self._resolve)
        pool = Pool(origin, dialler, self._limits, line, self._outbox)
        self._pools[origin] = pool
        return pool
