"""Classifies Ollama's failures. Source: docs/sources.md (Ollama). The body is `{"error": "message"}` at every status.

House rule 8 forbids to match on message text. Ollama gives no code, so two facts can only be read there, and
the phrases stand in one table: a model that lacks a capability, and a prompt that is too long.
"""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures import MESSAGE_CHARS_MAX, failure_for, in_own_words, retry_after_s
from mana_llm.schema.errors import (
    ProviderCapabilityError,
    ProviderError,
    ProviderProtocolError,
    ProviderServerError,
)
from mana_llm.schema.wire import Headers, JSONDecodeError, decode_json

# Source: ollama/ollama server/routes.go: `"m" does not support tools|thinking|chat|...`
_INCAPABLE: Final = " does not support "
# Source: server/routes.go and the runner: "the input length exceeds the context length" and kin.
_TOO_LONG: Final = (
    "exceeds the context",
    "exceeds maximum context",
    "exceed context",
    "context length exceeded",
)


class _Failed(msgspec.Struct):
    error: Any = None


def decode_error(status: int, headers: Headers, body: bytes) -> ProviderError:
    """The error that an answer is; never raises. A 2xx without one in it is a ProviderProtocolError."""
    message = _message_in(body)
    if 200 <= status < 300:
        return in_own_words(ProviderServerError(message), "an error in a 200") if message else _not_an_answer(status)
    if 400 <= status < 500 and _INCAPABLE in message:
        return ProviderCapabilityError(message[:MESSAGE_CHARS_MAX])
    return failure_for(status, message, retry_after_s=retry_after_s(headers), code=_code_of(status, message))


def error_in(raw: msgspec.Raw) -> ProviderError:
    """The failure that a line or a body with an `error` member tells, whatever that holds."""
    said = _text_of(_decoded(raw)) or "Ollama failed without saying why."
    return in_own_words(ProviderServerError(said), "an error within the answer")


def _code_of(status: int, message: str) -> str | None:
    # A 404 without Ollama's body is another server's page: no word on the model.
    if status == 404 and message:
        return "model_not_found"
    lowered = message.lower()
    if status in (400, 413) and any(phrase in lowered for phrase in _TOO_LONG):
        return "context_length_exceeded"
    return None


def _not_an_answer(status: int) -> ProviderError:
    return ProviderProtocolError(f"The provider answered {status} with something that is not Ollama's.")


def _message_in(body: bytes) -> str:
    """The message of an error body; "" if it is none."""
    try:
        return _text_of(decode_json(body, _Failed).error)
    except JSONDecodeError:
        return ""


def _decoded(raw: msgspec.Raw) -> object:
    try:
        return decode_json(raw)
    except JSONDecodeError:
        return None


def _text_of(error: object) -> str:
    # Proxies in front of Ollama, and its own /v1, answer OpenAI's shape.
    if isinstance(error, dict):
        error = error.get("message")
    return error[:MESSAGE_CHARS_MAX] if isinstance(error, str) else ""
