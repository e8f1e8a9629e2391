"""What a connection refuses before any application sees it, and how it says so."""

from typing import Final

from mana_llm.schema.errors import GatewayError, RequestError
from mana_llm.schema.wire import Headers

HEADER_BYTES_MAX: Final = 32 * 1024
HEADERS_MAX: Final = 100


_HOST_BYTES: Final = (
    bytes(range(ord("a"), ord("z") + 1)) + bytes(range(ord("A"), ord("Z") + 1)) + b"0123456789-._~:[]%!$&'()*+;="
)
"""What may stand in a Host header (RFC 3986 section 3.2.2, with port)."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not a mistake
    """Raised inside the parser's callbacks to stop it; carries the answer."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.message)
        self.error = error


def check_headers(headers: Headers, fields: dict[bytes, bytes], version: str) -> int:
    """The body's announced size in bytes, 0 if there is none; `fields` are the headers by name.

    Raises:
        Refusal: for what llhttp lets through: a missing, second or impossible Host (RFC 9112 section 3.2),
            another version in the request line, chunked in a 1.0 request and codings besides chunked (RFC 9112
            section 6.1), and too much of everything.
    """
    if len(headers) > HEADERS_MAX or 4 * len(headers) + len(b"".join(map(b"".join, headers))) > HEADER_BYTES_MAX:
        raise Refusal(headers_too_large())
    if version not in ("1.1", "1.0"):
        raise Refusal(RequestError(f"HTTP/{version} is not served here; use HTTP/1.1.", status=505))
    host = fields.get(b"host")
    if (host is None and version == "1.1") or (host and not _is_host(host)) or _repeats(b"host", headers, fields):
        raise Refusal(RequestError("Exactly one Host header with a valid name is needed.", code="invalid_host"))
    coding = fields.get(b"transfer-encoding")
    if coding is not None and version == "1.0":
        raise Refusal(RequestError("HTTP/1.0 has no Transfer-Encoding; send Content-Length."))
    if coding is not None and (coding.lower() != b"chunked" or _repeats(b"transfer-encoding", headers, fields)):
        # llhttp takes `gzip, chunked` for chunked alone; a body that stays coded would be somebody's riddle.
        raise Refusal(RequestError("The only Transfer-Encoding served here is chunked.", status=501))
    return int(fields.get(b"content-length", b"0"))


def _repeats(name: bytes, headers: Headers, fields: dict[bytes, bytes]) -> bool:
    """Whether a field comes more than once."""
    return len(fields) != len(headers) and sum(each == name for each, _ in headers) > 1


def _is_host(value: bytes) -> bool:
    # llhttp leaves a tab at the end of a value; the second look is for that alone.
    return not value.translate(None, _HOST_BYTES) or not value.strip().translate(None, _HOST_BYTES)


def without_upgrade(headers: Headers) -> Headers:
    """The headers less the wish to change the protocol; what else `Connection` says stays."""
    kept = []
    for name, value in headers:
        if name == b"connection":
            tokens = [token for token in value.split(b",") if token.strip().lower() not in _UPGRADE_TOKENS]
            if tokens:
                kept.append((name, b",".join(tokens)))
        elif name not in _UPGRADE_TOKENS:
            kept.append((name, value))
    return kept


_UPGRADE_TOKENS: Final = (b"upgrade", b"http2-settings")


def not_http() -> RequestError:
    """For bytes that llhttp does not take for a request."""
    return RequestError("This is not a valid HTTP/1.1 request.", code="invalid_http")


def headers_too_large() -> RequestError:
    """For more headers, or more bytes of them, than anybody needs."""
    limit = f"at most {HEADERS_MAX} headers and {HEADER_BYTES_MAX} bytes of them"
    return RequestError(f"The request's headers are too large: {limit}.", status=431, code="headers_too_large")


def body_too_large(limit: int) -> RequestError:
    """For a body beyond `limit` bytes."""
    message = f"The request body is larger than {limit} bytes (MANA_LLM_BODY_BYTES_MAX)."
    return RequestError(message, status=413, code="body_too_large")
