"""Whether a client wants an answer that nobody else gets."""

from typing import Final

from mana_llm.schema.wire import Headers

CACHE_HEADER: Final = b"cache-control"
_FRESH: Final = frozenset((b"no-cache", b"no-store"))


def wants_fresh(headers: Headers) -> bool:
    """Whether any `Cache-Control` says `no-cache` or `no-store`. Source: RFC 9111, 5.2.1.4 and 5.2.1.5."""
    return any(
        not _FRESH.isdisjoint(directive.partition(b"=")[0].strip() for directive in value.lower().split(b","))
        for name, value in headers
        if name == CACHE_HEADER
    )
