"""What an OpenAI-compatible server means by an error, whether it comes with a status or inside a 200.

Shapes seen: `{"error": {"message", "type", "param", "code"}}` (OpenAI; Groq without param; OpenRouter and
llama.cpp with a number as code), `{"error": "text"}` (Hugging Face), `{"message", "code", ...}` (Mistral, older
vLLM), `{"detail": ...}` (FastAPI servers). Source: recorded traffic, and OpenAI's OpenAPI description 2.3.0.
"""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures import failure_for, in_own_words, retry_after_s
from mana_llm.schema.errors import (
    ProviderError,
    ProviderProtocolError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderServerError,
)
from mana_llm.schema.wire import Headers, JSONDecodeError, decode_json

# The money or the allowance is gone: no retry helps. Source: OpenAI's error codes page; 402 is failure_for's.
_QUOTA: Final = frozenset(
    (
        "insufficient_quota",
        "credit_balance_exhausted",
        "project_spend_limit_exceeded",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    )
)
_RATE: Final = frozenset(("rate_limit_exceeded", "slow_down"))
# The model's own tool call did not fit its schema; a fresh sample may. Source: console.groq.com/docs/errors.
_RESAMPLE: Final = frozenset(("tool_use_failed",))
_CONTEXT: Final = frozenset(("context_length_exceeded", "exceed_context_size_error"))


class Said(msgspec.Struct):
    """An error as the server worded it; every member may be missing or of a foreign type."""

    message: str = ""
    code: str | None = None
    kind: str | None = None
    param: str | None = None
    status: int | None = None


def failure_in_body(status: int, headers: Headers, body: bytes) -> ProviderError:
    """Classify an answer with an error status, or a 200 of the wrong media type."""
    try:
        value = decode_json(body) if body else None
    except JSONDecodeError:
        value = None
    said = _said(value)
    if status == 200:
        if isinstance(value, dict) and value.get("error"):
            return _classified(said, said.status, None)
        return ProviderProtocolError(f"a 200 with {_media_type(headers)} instead of an answer")
    return _classified(said, status, retry_after_s(headers))


def failure_in_error(error: msgspec.Raw, status: int | None) -> ProviderError:
    """Classify the `error` member of a body or an event that came with a 200.

    A server that took the request and then calls it wrong has failed; another may well answer it.
    """
    said = _said({"error": decode_json(error)})
    failure = _classified(said, status or said.status, None)
    if isinstance(failure, ProviderRequestError):
        return in_own_words(ProviderServerError(failure.message), f"an error {failure.status} in a 200")
    return failure


def _classified(said: Said, status: int | None, retry_after: float | None) -> ProviderError:
    words = {said.code, said.kind}
    if words & _QUOTA:
        return ProviderQuotaError("the account behind our key is out of quota")
    if words & _RESAMPLE:
        return ProviderServerError("the model's tool call failed", health="none")
    if words & _RATE and status in (None, 200):
        return ProviderRateLimitError("too many requests", retry_after_s=retry_after)
    if status is None or not 300 <= status <= 599:
        # An error in a 200 that names no status is the server's own.
        return in_own_words(ProviderServerError(said.message or "an error without a message"), "an error in a 200")
    code = "context_length_exceeded" if words & _CONTEXT else said.code
    return failure_for(status, said.message, retry_after_s=retry_after, code=code, param=said.param)


def _said(value: Any) -> Said:
    """Read any of the known shapes; never fails."""
    if not isinstance(value, dict):
        return Said()
    error = value.get("error") or value
    if isinstance(error, str):
        return Said(message=error)
    if not isinstance(error, dict):
        return Said()
    message = error.get("message") or error.get("detail")
    code, param = error.get("code"), error.get("param")
    status = code if isinstance(code, int) else error.get("status_code")
    kind = error.get("type")
    return Said(
        message=message if isinstance(message, str) else "",
        code=code if isinstance(code, str) else None,
        kind=kind if isinstance(kind, str) else None,
        param=param if isinstance(param, str) else None,
        status=status if isinstance(status, int) and not isinstance(status, bool) else None,
    )


def _media_type(headers: Headers) -> str:
    for name, value in headers:
        if name == b"content-type":
            return ascii(value.split(b";")[0].decode("latin-1"))[:80]
    return "no content type"
