"""Fetches the images that a request names by URL, for providers that take only bytes.

`guard` says what may be touched. The rest is bounded here: no redirect is followed (its target would be a URL that
nobody asked for), what comes must be an image by its first bytes, and the images of one request share one
allowance of bytes and one of time. Each is fetched over a connection of its own, which is closed afterwards: the
hosts are the clients' choice, and a pool for each would be theirs to fill.

Fetches go straight out, never through HTTPS_PROXY: a proxy looks names up by itself, and the address that was
checked would not be the one that is connected to. Where a proxy is the only way out, nothing is fetched by URL.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final

import msgspec

from mana_llm.schema.chat import Fetched
from mana_llm.schema.errors import ProviderError, ProviderTimeoutError
from mana_llm.schema.wire import Call, Endpoint, Limits
from mana_llm.upstream.client import Upstream
from mana_llm.upstream.guard import Guard, cannot_fetch
from mana_llm.upstream.limits import PoolLimits
from mana_llm.upstream.media import image_type
from mana_llm.upstream.tls import Tls

IMAGES_MAX: Final = 16
"""Images by URL in one request."""
REQUESTS_MAX: Final = 16
"""Requests whose images are fetched at once; others wait for their turn, within their time."""

_ONE: Final = PoolLimits(connections_max=1, idle_max=0)
# The whole fetch has its deadline; these are only never to end before it.
_NO_LIMIT_S: Final = 3600.0
_LIMITS: Final = Limits(connect_s=_NO_LIMIT_S, first_s=None, idle_s=_NO_LIMIT_S, total_s=_NO_LIMIT_S)


class FetchLimits(msgspec.Struct, frozen=True):
    """What the images of one request may take together. `bytes_max` 0: nothing is fetched."""

    bytes_max: int
    total_s: float


class ImageFetcher:
    """Implements `ports.Fetcher`."""

    def __init__(self, limits: FetchLimits, guard: Guard, ssl_context: ssl.SSLContext | None = None) -> None:
        self._limits = limits
        self._guard = guard
        self._tls = Tls(ssl_context)
        self._slots = asyncio.Semaphore(REQUESTS_MAX)

    async def fetch(self, urls: Sequence[str], left_s: float) -> dict[str, Fetched]:
        """As `ports.Fetcher.fetch`, one image after the other."""
        if not self._limits.bytes_max:
            raise cannot_fetch("this gateway fetches none.")
        if len(urls) > IMAGES_MAX:
            raise cannot_fetch(f"a request may name at most {IMAGES_MAX} by URL.")
        endpoints = {url: self._guard.endpoint(url) for url in urls}
        try:
            async with asyncio.timeout(min(self._limits.total_s, left_s)), self._slots:
                return await self._fetch_all(endpoints)
        except TimeoutError as error:
            raise self._late(left_s) from error

    async def _fetch_all(self, endpoints: dict[str, Endpoint]) -> dict[str, Fetched]:
        found: dict[str, Fetched] = {}
        left_bytes = self._limits.bytes_max
        for url, endpoint in endpoints.items():
            data = await self._fetch(endpoint, left_bytes)
            kind = image_type(data)
            if kind is None:
                raise cannot_fetch(f"what {endpoint.origin} sent is no image that models take.")
            found[url] = Fetched(kind, data)
            left_bytes -= len(data)
        return found

    async def _fetch(self, endpoint: Endpoint, bytes_max: int) -> bytes:
        secure = endpoint.origin.scheme == "https"
        context = self._tls.context if secure else None
        upstream = Upstream(ssl_context=context, limits=_ONE, resolve=self._guard.resolve)
        try:
            return await _get(upstream, endpoint, bytes_max)
        except ProviderError as error:
            # Upstream's words are a provider's; here it is whoever the client named.
            raise cannot_fetch(error.message) from error
        finally:
            await upstream.close()

    def _late(self, left_s: float) -> Exception:
        if left_s < self._limits.total_s:
            return ProviderTimeoutError("The request's time ran out while its images were fetched.", health="none")
        return cannot_fetch(f"there was no answer, or no end of it, within {self._limits.total_s:g} s.")


async def _get(upstream: Upstream, endpoint: Endpoint, bytes_max: int) -> bytes:
    """The body of a 200. Raises RequestError for any other status, and as `Transport.send` and `read_all`."""
    response = await upstream.send(Call(endpoint), _LIMITS)
    try:
        if 300 <= response.status < 400:
            raise cannot_fetch(f"{endpoint.origin} redirects ({response.status}), which is not followed.")
        if response.status != 200:
            raise cannot_fetch(f"{endpoint.origin} answered {response.status}.")
        return await response.read_all(bytes_max)
    finally:
        response.close()
