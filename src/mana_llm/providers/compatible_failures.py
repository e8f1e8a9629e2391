"""What an OpenAI-compatible server means by an error, whether it comes with a status or inside a 200.

Source: recorded traffic, OpenAI's OpenAPI description 2.3.0 and error codes page, and docs/sources.md.
"""

import re
from typing import Final

import msgspec

from mana_llm.providers.compatible_said import Said, said_in
from mana_llm.providers.failures import failure_for, in_own_words, refused_key, retry_after_s
from mana_llm.providers.failures.resets import reset_after_s
from mana_llm.schema.errors import (
    ProviderBlockedError,
    ProviderCapabilityError,
    ProviderError,
    ProviderProtocolError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderServerError,
)
from mana_llm.schema.wire import NULL, Headers, JSONDecodeError, decode_json, encode_json

# The money or the allowance is gone: no retry helps. 402 is failure_for's. Source: OpenAI's error codes page;
# Moonshot's for exceeded_current_quota_error.
_QUOTA: Final = frozenset(
    (
        "insufficient_quota",
        "credit_balance_exhausted",
        "project_spend_limit_exceeded",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "exceeded_current_quota_error",
    )
)
_RATE: Final = frozenset(("rate_limit_exceeded", "slow_down"))
# Our key was refused with another status than 401. Source: xAI's 400, in continuedev/continue#10778.
_BAD_KEY: Final = frozenset(("invalid_api_key",))
_BAD_KEY_TEXT: Final = re.compile(r"incorrect api key provided", re.IGNORECASE)
# The model's own tool call did not fit its schema; a fresh sample may. Source: console.groq.com/docs/errors.
_RESAMPLE: Final = frozenset(("tool_use_failed",))
# A filter stopped the prompt. Source: Azure's and OpenAI's content filter codes.
_BLOCKED: Final = frozenset(("content_filter", "content_policy_violation"))
# llama.cpp without the part that is asked for. Source: recorded 501s.
_INCAPABLE: Final = frozenset(("not_supported_error",))
_CONTEXT: Final = "context_length_exceeded"
_UNKNOWN: Final = "model_not_found"
# Their words for two codes that clients look for. Source: recorded traffic of llama.cpp, Perplexity, Mistral.
_CODES: Final = {
    "exceed_context_size_error": _CONTEXT,
    "too_many_prompt_tokens": _CONTEXT,
    "invalid_model": _UNKNOWN,
}
# With the refused key above, the one place that reads messages: these servers answer a plain 400 with no code of
# their own for it.
# Source: recorded traffic of OpenRouter, DeepSeek, Ollama's cloud and Venice; vLLM, xAI and Moonshot as quoted in
# their clients' issues.
_TEXTS: Final = (
    (
        re.compile(
            r"maximum context length|max context length|maximum prompt length|exceeded model token limit", re.IGNORECASE
        ),
        _CONTEXT,
    ),
    (
        re.compile(
            r"not a valid model id|supported api model names|"
            r"\bmodel\b[^.]{0,200}(?:does not exist|not exist|not found)",
            re.IGNORECASE,
        ),
        _UNKNOWN,
    ),
)
# What DeepSeek and others put into `code` for every 400 is their type again, and no code.
_NO_CODES: Final = frozenset((None, "invalid_request_error"))
# Members named `error` that tell none. Source: openai-python's streams, which take only what is true for one.
_NO_ERRORS: Final = frozenset((b"null", b'""', b"{}", b"[]", b"false"))
_ERROR_OBJECT: Final = msgspec.Raw(b'"error"')
_WORDS: Final = frozenset(("message", "detail"))
_STATUSES: Final = {_CONTEXT: 400, _UNKNOWN: 404}


def failure_in_body(status: int, headers: Headers, body: bytes) -> ProviderError:
    """Classify an answer with an error status, or a 200 of the wrong media type or with an error in it."""
    try:
        value = decode_json(body) if body else None
    except JSONDecodeError:
        value = None
    said = said_in(value)
    if status == 200:
        if isinstance(value, dict) and (value.get("error") or value.get("object") == "error"):
            return _in_answer(_classified(said, said.status))
        return ProviderProtocolError(f"a 200 with {_media_type(headers)} instead of an answer")
    if status == 429 and said.retry_after_s is None:
        said.retry_after_s = reset_after_s([*headers, *said.limits])
    asked = retry_after_s(headers)
    said.retry_after_s = said.retry_after_s if asked is None else asked
    return _classified(said, status)


def failure_in_error(error: msgspec.Raw, status: int | None) -> ProviderError:
    """Classify the `error` member of a body or an event that came with a 200."""
    try:
        said = said_in({"error": decode_json(error)})
    except JSONDecodeError as problem:
        return ProviderProtocolError(f"an error that cannot be read: {problem}")
    return _in_answer(_classified(said, status or said.status))


def failure_alone(fields: dict[str, msgspec.Raw]) -> ProviderError | None:
    """The failure that an event without choices is, if it is nothing but an error, with no frame around it.

    Mistral's and older vLLM's call themselves one; those of FastAPI's servers and Cerebras have only the words. What
    has counts or another name for itself is none.
    """
    if fields.get("object") != _ERROR_OBJECT and ("object" in fields or _WORDS.isdisjoint(fields)):
        return None
    return failure_in_error(msgspec.Raw(encode_json(fields)), None)


def _in_answer(failure: ProviderError) -> ProviderError:
    """A failure that came with a 200: who took the request and then calls it wrong has failed; another may answer."""
    if isinstance(failure, ProviderRequestError):
        return in_own_words(ProviderServerError(failure.message), f"an error {failure.status} in a 200")
    return failure


def raise_error(fields: dict[str, msgspec.Raw]) -> None:
    """Raise what the `error` member of a 200's body or event says; an empty one says nothing and is taken off.

    Raises:
        ProviderError: as `failure_in_error` classifies it.
    """
    error = fields["error"]
    if bytes(error) not in _NO_ERRORS:
        raise failure_in_error(error, None)
    # Some clients take any object for an error, an empty one too; null stays as it came.
    if error != NULL:
        del fields["error"]


def _classified(said: Said, status: int | None) -> ProviderError:
    words = {said.code, said.kind}
    if words & _QUOTA:
        return ProviderQuotaError("the account behind our key is out of quota")
    if words & _RESAMPLE:
        return ProviderServerError("the model's tool call failed", health="none")
    if words & _BLOCKED or said.blocked:
        return ProviderBlockedError("the provider's content filter stopped the prompt")
    if words & _BAD_KEY or _BAD_KEY_TEXT.match(said.message):
        return refused_key(status or 400)
    if words & _INCAPABLE:
        return ProviderCapabilityError(said.message or "the provider cannot do what was asked")
    if words & _RATE and status in (None, 200):
        return ProviderRateLimitError("too many requests", retry_after_s=said.retry_after_s)
    if status is None or not 300 <= status <= 599:
        # An error in a 200 that names no status is the server's own.
        return in_own_words(ProviderServerError(said.message or "an error without a message"), "an error in a 200")
    failure = failure_for(status, said.message, retry_after_s=said.retry_after_s, code=said.code, param=said.param)
    return _named(failure, said) if isinstance(failure, ProviderRequestError) else failure


def _named(failure: ProviderRequestError, said: Said) -> ProviderRequestError:
    """Give the two codes that clients act upon their name and status, however the server put them."""
    known = _CODES.get(said.code or "") or _CODES.get(said.kind or "") or said.code
    if known in _NO_CODES:
        known = next((code for text, code in _TEXTS if text.search(failure.message)), known)
    if known in _NO_CODES and failure.status == _STATUSES[_UNKNOWN] and said.message:
        # Where a chat is asked for, what is not found is the model, or somebody to run it (OpenRouter).
        known = _UNKNOWN
    if known in _STATUSES:
        failure.code, failure.status = known, _STATUSES[known]
    return failure


def _media_type(headers: Headers) -> str:
    for name, value in headers:
        if name == b"content-type":
            return ascii(value.split(b";")[0].decode("latin-1"))[:80]
    return "no content type"
