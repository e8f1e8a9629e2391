"""The bytes of a request."""

import re

from mana_llm.schema.wire import Endpoint

# RFC 9110 section 5.6.2 (a method is a token) and RFC 3986 (a target is visible ASCII): a space, CR or LF in either
# would let one request become two.
_method = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_visible = re.compile(r"[!-~]+").fullmatch


def render_head(endpoint: Endpoint, *, absolute: bool = False, extra: bytes = b"") -> bytes:
    """The request's head up to, and without, Content-Length and the empty line.

    With `absolute` the target takes the form that a proxy wants (RFC 9112 section 3.2.2); `extra` holds further
    rendered header lines.

    Raises:
        ValueError: if method, target or host hold what would end their line early.
    """
    authority = endpoint.origin.authority
    if not (_method(endpoint.method) and _visible(endpoint.target) and _visible(authority)):
        raise ValueError(f"The method, host or target of a call to {endpoint.origin} is not plain visible ASCII.")
    target = f"{endpoint.origin}{endpoint.target}" if absolute else endpoint.target
    line = f"{endpoint.method} {target} HTTP/1.1\r\nHost: {authority}\r\nAccept-Encoding: identity\r\n"
    return line.encode("ascii") + endpoint.headers + extra
