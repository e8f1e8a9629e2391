"""What a fetch may touch: which URLs, and which addresses their hosts may have.

Clients name the URLs, and the gateway stands in the operator's network, where much is open to whoever is inside:
routers, databases, a cloud's metadata. So there are two judges.

`Guard.endpoint` reads a URL by one strict grammar, and the endpoint that is called is made of what was read: no
second reader can differ. https on port 443, a host in its one spelling, nothing else.

`Guard.resolve` stands between a name and the dialler, and is the one that counts: it looks the name up once,
refuses it if a single one of its addresses is not public, and hands on the addresses that it checked. The dialler
connects to those and asks no resolver again, so a name that changes its mind (DNS rebinding) wins nothing.

With `private`, which is for a network at home, http, every port and private addresses are allowed too. What is
never anybody's image server stays closed: link-local, multicast, the metadata of clouds, and every IPv6 form that
carries an IPv4 address within, which a translator would send anywhere.
"""

import asyncio
import ipaddress
import re
from typing import Final
from urllib.parse import quote

from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import Endpoint, Origin
from mana_llm.upstream.connect import ADDRESSES_MAX, Address, lookup

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL_CHARACTERS_MAX: Final = 8 * 1024
LOOKUPS_MAX: Final = 2
"""Names that are looked up at once: each takes one of few threads (uvloop has 4), which the providers need too."""

_HEADERS: Final = b"User-Agent: mana-llm\r\nAccept: image/*\r\n"
_PORTS: Final = {"https": 443, "http": 80}
_GRAMMAR: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f/?#\\@:%\[\]]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][^\x00-\x20\x7f#\\]*)?(?:#[^\x00-\x20\x7f]*)?",
    re.IGNORECASE,
)
_USER: Final = re.compile(r"[^/?#]*//[^/?#]*@")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What a resolver may take for a number, and so the whole host for an IPv4 address (WHATWG URL, "ends in a number").
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
# IDNA 2003, Python's own, reads these otherwise than today's IDNA: a host that is not the one that was meant.
_DEVIATIONS: Final = frozenset("ß\u1e9eς\u200c\u200d")
_SAFE: Final = "!\"$%&'()*+,/:;<=>?@[]^`{|}~"


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Source: IANA's special-purpose address registries. `is_global` knows most of it, and in each Python a little else.
_NEVER: Final = _networks(
    "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4",
    # Addresses within addresses: compatible and mapped, NAT64, Teredo and its kin, 6to4.
    "::/128", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16",
    "2001:db8::/32", "3fff::/20", "fe80::/10", "fec0::/10", "ff00::/8",
    # The metadata of clouds, where they are not link-local: Azure's, Alibaba's, Amazon's and Google's.
    "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::/32", "fd20:ce::/32",
)  # fmt: skip
_PUBLIC: Final = _networks("0.0.0.0/0", "2000::/3")
_PRIVATE: Final = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"
)  # fmt: skip


def cannot_fetch(why: str) -> RequestError:
    """The error of an image that is not fetched; `why` is a sentence."""
    return RequestError(
        f"An image by URL was not fetched: {why} Send the image as a data: URI instead.",
        code="invalid_image_url",
        param="messages",
    )


def is_allowed(address: str, *, private: bool) -> bool:
    """Whether a fetch may connect to this IP address."""
    found = ipaddress.ip_address(address)
    if _within(found, _NEVER):
        return False
    return (found.is_global and _within(found, _PUBLIC)) or (private and _within(found, _PRIVATE))


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


class Guard:
    """Judges URLs and addresses."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._lookups = asyncio.Semaphore(LOOKUPS_MAX)

    def endpoint(self, url: str) -> Endpoint:
        """What a GET of `url` asks.

        Raises:
            RequestError: if it is no URL that may be fetched.
        """
        if len(url) > URL_CHARACTERS_MAX:
            raise cannot_fetch(f"the URL has more than {URL_CHARACTERS_MAX} characters.")
        parts = _GRAMMAR.fullmatch(url)
        if parts is None:
            problem = "a user in the URL is not allowed." if _USER.match(url) else "the URL cannot be read."
            raise cannot_fetch(problem)
        scheme = parts["scheme"].lower()
        port = int(parts["port"] or _PORTS[scheme])
        if not self._private and (scheme, port) != ("https", 443):
            raise cannot_fetch("only https on port 443 is allowed here.")
        if not 1 <= port <= 65_535:
            raise cannot_fetch("the URL's port is none.")
        target = parts["target"] or "/"
        path = quote(target if target[0] == "/" else f"/{target}", safe=_SAFE, errors="replace")
        return Endpoint(Origin(scheme, _host(parts["host"]), port), "GET", path, _HEADERS)

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of `host`, every one of which may be connected to; as `connect.resolve`.

        Raises:
            RequestError: if there is none, or one that may not be touched. It does not say which of the two: whoever
                sends URLs does not learn the names of this network.
        """
        try:
            found = await self._lookup(host, port)
        except OSError:
            found = []
        if not found or not all(is_allowed(peer[0], private=self._private) for _, peer in found):
            kind = "" if self._private else "public "
            raise cannot_fetch(f"the host of the URL has no {kind}address that may be used.")
        return found[:ADDRESSES_MAX]

    async def _lookup(self, host: str, port: int) -> list[Address]:
        # A look-up runs in a thread that cannot be stopped, so it keeps its place until it is over, even if nobody
        # waits for it any more: names whose servers never answer cannot take every thread.
        await self._lookups.acquire()
        looking = asyncio.ensure_future(lookup(host, port))
        looking.add_done_callback(lambda _: self._lookups.release())
        return await asyncio.shield(looking)


def _host(text: str) -> str:
    """The host in its one spelling: lower-case, IDNA, no dot at its end. Raises RequestError if it is none."""
    try:
        if text[0] == "[":
            return str(ipaddress.IPv6Address(text[1:-1]))
        host = _spelt(text)
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return str(ipaddress.IPv4Address(host))
    except ValueError as error:
        raise cannot_fetch("the host of the URL is not spelt as a name or as an address is.") from error
    return host


def _spelt(text: str) -> str:
    """Raises ValueError for what cannot be the name of a host."""
    if len(text) > 254 or not _DEVIATIONS.isdisjoint(text):
        raise ValueError("too long, or read in two ways")
    host = text.encode("idna").decode("ascii").lower().removesuffix(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError("not the labels of a name")
    return host
