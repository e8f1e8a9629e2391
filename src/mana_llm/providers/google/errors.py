"""Classifies Gemini's failures. Source: docs/sources.md (Gemini).

The body is `{"error": {"code", "message", "status", "details"}}`, in a one-element array where a stream was
asked for without alt=sse. A bad key is a 400 whose details say so; the wait is in the details too, never in a
header.
"""

import re
from typing import Any, Final

import msgspec

from mana_llm.providers.failures import failure_for, refused_key, retry_after_s
from mana_llm.schema.errors import ProviderError, ProviderProtocolError
from mana_llm.schema.wire import NULL, Headers, JSONDecodeError, decode_json

# Source: google.rpc.ErrorInfo reasons API_KEY_INVALID (recorded), API_KEY_EXPIRED, API_KEY_SERVICE_BLOCKED
# ...
_KEY_REASON: Final = "API_KEY_"
_AUTH_STATUSES: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
# Gemini has no code for a prompt that is too long: INVALID_ARGUMENT, and "The input token count (...) exceeds
# the maximum number of tokens allowed (...)".
_TOO_LONG: Final = re.compile(r"token count.{0,40}exceeds", re.IGNORECASE | re.DOTALL)
_NO_ERROR: Final = (NULL, msgspec.Raw(b'""'))
_DELAY: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")


class _Violation(msgspec.Struct, rename="camel"):
    quota_id: str | None = None


class _Detail(msgspec.Struct, rename="camel"):
    reason: str | None = None
    retry_delay: str | None = None
    violations: list[_Violation] | None = None


class _Problem(msgspec.Struct):
    code: Any = None
    message: Any = None
    status: Any = None
    details: Any = None


class _Failed(msgspec.Struct):
    error: _Problem


def decode_error(status: int, headers: Headers, body: bytes) -> ProviderError:
    """The error that an answer is; never raises. A 2xx is the error in it, or a ProviderProtocolError."""
    problem = _problem_in(body)
    if problem is None:
        if 200 <= status < 300:
            return ProviderProtocolError(f"The provider answered {status} with something that is not Gemini's.")
        return failure_for(status, "", retry_after_s=retry_after_s(headers))
    if status < 300:
        status = _status_of(problem)
    return _failure(status, problem, retry_after_s(headers))


def tells_error(raw: msgspec.Raw) -> bool:
    """Whether an `error` member says anything; null and "" beside a good answer are a proxy's, and nothing."""
    return bool(raw) and raw not in _NO_ERROR


def error_in(raw: msgspec.Raw) -> ProviderError:
    """The failure that an answer or an event with an `error` member tells, whatever that holds."""
    try:
        problem: _Problem = decode_json(raw, _Problem)
    except JSONDecodeError:
        return ProviderProtocolError("Gemini failed without saying why.")
    return _failure(_status_of(problem), problem, None)


def _failure(status: int, problem: _Problem, wait_s: float | None) -> ProviderError:
    details = _details(problem)
    message = problem.message if isinstance(problem.message, str) else ""
    name = problem.status if isinstance(problem.status, str) else None
    if _refuses_key(status, name, details):
        return refused_key(status)
    if wait_s is None:
        wait_s = next((wait for detail in details if (wait := _delay_of(detail)) is not None), None)
    code = name
    if status == 404:
        code = "model_not_found"
    elif status == 400 and _TOO_LONG.search(message):
        code = "context_length_exceeded"
    elif status == 429 and any(_is_per_day(detail) for detail in details):
        code = "insufficient_quota"
    return failure_for(status, message, retry_after_s=wait_s, code=code)


def _refuses_key(status: int, name: str | None, details: list[_Detail]) -> bool:
    if not 400 <= status < 500:
        return False
    return name in _AUTH_STATUSES or any((detail.reason or "").startswith(_KEY_REASON) for detail in details)


def _is_per_day(detail: _Detail) -> bool:
    return any("PerDay" in (violation.quota_id or "") for violation in detail.violations or ())


def _delay_of(detail: _Detail) -> float | None:
    match = _DELAY.fullmatch(detail.retry_delay or "")
    return float(match[1]) if match else None


def _status_of(problem: _Problem) -> int:
    """The HTTP status that an error inside a 200 stands for; one that names none is the server's failure."""
    code = problem.code
    return code if isinstance(code, int) and 300 <= code < 600 else 500


def _problem_in(body: bytes) -> _Problem | None:
    try:
        failed = decode_json(body, _Failed | list[_Failed])
    except JSONDecodeError:
        return None
    if isinstance(failed, list):
        return failed[0].error if failed else None
    return failed.error  # type: ignore[no-any-return]


def _details(problem: _Problem) -> list[_Detail]:
    """The details that can be read; the others are of kinds that nothing here asks for."""
    rows = problem.details if isinstance(problem.details, list) else []
    details = []
    for row in rows:
        try:
            details.append(msgspec.convert(row, _Detail))
        except msgspec.ValidationError:
            continue
    return details
