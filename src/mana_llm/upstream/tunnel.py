"""A proxy's CONNECT: the reply is parsed apart from the answers that will come through the tunnel."""

import asyncio
from typing import cast

import httptools

from mana_llm.schema.errors import ProviderConnectError
from mana_llm.schema.wire import Origin
from mana_llm.upstream.proxy import Proxy

# A proxy's reply is a few hundred bytes; an error page in its body is not read.
_REPLY_BYTES_MAX = 65_536


class Tunnel(asyncio.Protocol):
    """Asks a proxy for a way through; serves once, then TLS takes the transport over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reply: asyncio.Future[int] = loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self, origin: Origin, proxy: Proxy) -> None:
        """Have the proxy connect to `origin`.

        Raises:
            ProviderConnectError: if it does not.
        """
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        line = f"CONNECT {host}:{origin.port} HTTP/1.1\r\nHost: {host}:{origin.port}\r\n"
        self._transport.write(line.encode("ascii") + proxy.authorization + b"\r\n")
        status = await self._reply
        if status == 407:
            raise ProviderConnectError(
                f"The proxy {proxy} wants a user and password: http://user:password@host:port in HTTPS_PROXY."
            )
        if not 200 <= status < 300:
            what = f"answered {status}" if status else "closed the connection or did not speak HTTP"
            raise ProviderConnectError(f"The proxy {proxy}, asked for {origin}, {what}.")

    def data_received(self, data: bytes) -> None:
        """Parse the reply's head. Whatever follows a good one before TLS began is not from the upstream."""
        self._bytes += len(data)
        if self._reply.done() or self._bytes > _REPLY_BYTES_MAX:
            self._settle(0)
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._settle(0)

    def connection_lost(self, error: Exception | None) -> None:
        """End the wait."""
        self._settle(0)

    def on_headers_complete(self) -> None:
        """Note the status; an interim one is skipped."""
        status = self._parser.get_status_code()
        if status >= 200:
            self._settle(status)

    def on_body(self, body: bytes) -> None:
        """Distrust a proxy that talks on after a good reply."""
        if self._reply.done() and not self._reply.cancelled() and 200 <= self._reply.result() < 300:
            self._transport.abort()

    def _settle(self, status: int) -> None:
        if not self._reply.done():
            self._reply.set_result(status)
