"""Which proxy a target takes, from the environment's conventions as a value.

curl, requests and Go agree on little but the names. Chosen here: the lower-case name wins where both are set; an
empty value means none; upper-case HTTP_PROXY is ignored in a CGI process (REQUEST_METHOD is set), where a client
could set it by a `Proxy:` header; ALL_PROXY serves schemes without a proxy of their own; and, as Go and unlike curl,
loopback targets are never proxied, because an Ollama on localhost is not the proxy's localhost.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from mana_llm.schema.wire import Origin


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy; `authorization` is the rendered Proxy-Authorization line with its CRLF, or empty."""

    host: str
    port: int
    authorization: bytes = b""

    def __repr__(self) -> str:
        # The line holds a password.
        return f"<Proxy {self}>"

    def __str__(self) -> str:
        return str(Origin("http", self.host, self.port))


class Proxies(msgspec.Struct, frozen=True):
    """The proxy of each scheme, and the rules of NO_PROXY, lower-case."""

    http: Proxy | None = None
    https: Proxy | None = None
    excluded: tuple[str, ...] = ()

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """The proxy that connections to `origin` take; None for a direct connection."""
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or _is_loopback(origin.host) or any(_covers(rule, origin) for rule in self.excluded):
            return None
        return proxy


def proxies_from(environ: Mapping[str, str]) -> Proxies:
    """Read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in either case.

    Raises:
        ValueError: if a proxy is not `http://host:port` (the variable is named, its value is not quoted).
    """
    rules = _lookup(environ, "no_proxy").lower().replace(",", " ").split()
    return Proxies(_proxy(environ, "http_proxy"), _proxy(environ, "https_proxy"), tuple(rules))


def _lookup(environ: Mapping[str, str], name: str) -> str:
    if name in environ:
        return environ[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return ""
    return environ.get(name.upper(), "").strip()


def _proxy(environ: Mapping[str, str], name: str) -> Proxy | None:
    for each in (name, "all_proxy"):
        if value := _lookup(environ, each):
            return _parse(value, each.upper())
        if each in environ:
            return None
    return None


def _parse(value: str, name: str) -> Proxy:
    problem = ValueError(f"{name} should be http://host:port, perhaps with user:password@ before the host.")
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise problem from None
    if parts.scheme != "http" or not host or not host.isascii():
        raise problem
    line = b""
    if parts.username is not None:
        secret = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        line = b"Proxy-Authorization: Basic %s\r\n" % b64encode(secret)
    # curl's default is 1080, every other client's is the scheme's own.
    return Proxy(host, 80 if port is None else port, line)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.lower().rstrip(".") == "localhost" if address is None else address.is_loopback


def _covers(rule: str, origin: Origin) -> bool:
    if rule == "*":
        return True
    host = origin.host.lower().rstrip(".")
    if "/" in rule:
        return _in_network(rule, host)
    name, port = _split_port(rule)
    if port and port != str(origin.port):
        return False
    address = _address(host)
    if address is not None:
        return address == _address(name)
    # `example.com`, `.example.com` and `*.example.com` all cover the name and everything below it, as in curl.
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith("." + name))


def _split_port(rule: str) -> tuple[str, str]:
    if rule.startswith("["):
        name, _, rest = rule[1:].partition("]")
        return name, rest.removeprefix(":")
    if rule.count(":") == 1:
        name, _, port = rule.partition(":")
        return name, port
    return rule, ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _in_network(rule: str, host: str) -> bool:
    address = _address(host)
    try:
        return address is not None and address in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False
