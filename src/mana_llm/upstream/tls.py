"""TLS settings, made when the first TLS connection needs them."""

import ssl
from functools import cached_property


class Tls:
    """Holds one SSL context: the given one, or the system's trust.

    Reading the system's certificates takes some 20 ms, so start-up does not pay for it. OpenSSL honours
    SSL_CERT_FILE and SSL_CERT_DIR by itself.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._given = context

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The context for every TLS connection; checks certificate and host name unless a given one does not."""
        if self._given is not None:
            return self._given
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context
