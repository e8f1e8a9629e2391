"""From an origin to a connection that can carry requests: TCP, perhaps a proxy's tunnel, perhaps TLS."""

import asyncio
import socket
import ssl

from mana_llm.schema.errors import ProviderConnectError, ProviderTimeoutError
from mana_llm.schema.wire import Origin
from mana_llm.upstream.connect import Resolve, open_socket, resolve
from mana_llm.upstream.connection import Connection
from mana_llm.upstream.proxy import Proxy
from mana_llm.upstream.tls import Tls
from mana_llm.upstream.tunnel import Tunnel


class Dialler:
    """Opens connections to one origin."""

    def __init__(self, origin: Origin, proxy: Proxy | None, tls: Tls, resolve: Resolve = resolve) -> None:
        self._origin = origin
        self._proxy = proxy
        self._tls = tls
        self._resolve = resolve
        self._via = f" (through the proxy {proxy})" if proxy is not None else ""

    async def open(self, connection: Connection, connect_s: float) -> None:
        """Bring `connection` about within `connect_s`. On any exception nothing stays open.

        Raises:
            ProviderConnectError: if the peer cannot be reached or trusted; the message says what to do.
            ProviderTimeoutError: if it took too long.
        """
        try:
            async with asyncio.timeout(connect_s) as deadline:
                await self._open(connection)
        except OSError as error:
            # TimeoutError is an OSError, and so is the kernel's own ETIMEDOUT: only the deadline knows.
            if deadline.expired():
                late = ProviderTimeoutError(f"No connection to {self._origin}{self._via} within {connect_s:g} s.")
                late.reached = False
                raise late from error
            raise ProviderConnectError(self._explain(error)) from error

    async def _open(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        peer = self._proxy or self._origin
        opened = await open_socket(await self._resolve(peer.host, peer.port))
        secure = self._origin.scheme == "https"
        context = self._tls.context if secure and self._proxy is None else None
        try:
            if secure and self._proxy is not None:
                await self._tunnel(opened, connection, self._proxy)
            else:
                await loop.create_connection(
                    lambda: connection,
                    sock=opened,
                    ssl=context,
                    server_hostname=self._origin.host if context else None,
                )
        except BaseException:
            opened.close()
            raise

    async def _tunnel(self, opened: socket.socket, connection: Connection, proxy: Proxy) -> None:
        loop = asyncio.get_running_loop()
        transport, tunnel = await loop.create_connection(lambda: Tunnel(loop), sock=opened)
        try:
            await tunnel.ask(self._origin, proxy)
            inner = await loop.start_tls(transport, connection, self._tls.context, server_hostname=self._origin.host)
        except BaseException:
            transport.abort()
            raise
        if inner is None:
            raise ConnectionResetError("closed during the TLS handshake")
        connection.connection_made(inner)

    def _explain(self, error: OSError) -> str:
        where = f"{self._origin}{self._via}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"The certificate of {where} is not trusted: {error.verify_message}. "
                "If it is signed by an authority of your own, name its file in SSL_CERT_FILE."
            )
        if isinstance(error, ssl.SSLError):
            return f"TLS with {where} failed ({error.reason}). Does that port speak https?"
        if isinstance(error, socket.gaierror):
            return f"The host name of {where} was not found. Check the address and the network's DNS."
        if isinstance(error, ConnectionRefusedError):
            return f"{where} refused the connection. Is it running, and is this its port?"
        return f"No connection to {where}: {error.strerror or error or type(error).__name__}."
