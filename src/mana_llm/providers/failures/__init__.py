"""Failures on both sides of a call, for every provider: what a status means, and what cannot be asked.

Here stands the status table of docs/behaviour.md and the wish to come later. `fields` and `messages` read OpenAI's
request, where each function gives a value or raises the error that names the place.
"""

import re
from typing import Final

from mana_llm.providers.failures.instants import date_of, seconds_until
from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderError,
    ProviderProtocolError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderServerError,
)
from mana_llm.schema.wire import Headers

MESSAGE_CHARS_MAX: Final = 1000
"""How much of a provider's own words is passed on: enough for a message, too little for an echoed prompt."""

# Source: docs/behaviour.md. 408, 409, 425: try again; 498: a cheap tier is full; 499: its own caller left.
_FAILED: Final = frozenset({408, 409, 425, 498, 499})
_OUT_OF_QUOTA: Final = "insufficient_quota"
_SECONDS: Final = re.compile(rb"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*")


def failure_for(
    status: int,
    message: str,
    *,
    retry_after_s: float | None = None,
    code: str | None = None,
    param: str | None = None,
) -> ProviderError:
    """The error that an answer of this status is.

    `message` is the provider's own; of an answer that refuses our key it is not used, since it may quote the
    key. `code` `insufficient_quota` makes any 4xx a ProviderQuotaError. A 1xx or 2xx is a
    ProviderProtocolError.
    """
    error = _class_for(status, message[:MESSAGE_CHARS_MAX], code=code, param=param)
    error.retry_after_s = retry_after_s
    return in_own_words(error, f"The provider answered {status}.")


def in_own_words(error: ProviderError, detail: str) -> ProviderError:
    """The error, with `detail` instead of the provider's message where attempts are shown: that may quote a prompt."""
    error.detail = detail
    return error


def _class_for(status: int, said: str, *, code: str | None, param: str | None) -> ProviderError:
    message = said or f"The provider answered {status} without a message."
    if status in (401, 403):
        return refused_key(status)
    if status == 402 or (code == _OUT_OF_QUOTA and 400 <= status < 500):
        return ProviderQuotaError(message, param=param)
    if status == 429:
        return ProviderRateLimitError(message, param=param)
    if status >= 500 or status in _FAILED or 300 <= status < 400:
        return ProviderServerError(message, param=param)
    if status >= 400:
        return ProviderRequestError(message, status=status, code=code, param=param)
    return ProviderProtocolError(message, param=param)


def refused_key(status: int) -> ProviderAuthError:
    """The error for an answer that refuses our key, in our words: the provider's may quote the key."""
    return ProviderAuthError(f"The provider refused the gateway's key ({status}). Its operator must mend that.")


def retry_after_s(headers: Headers) -> float | None:
    """How long the provider asks to be left alone, in seconds; None if it does not say so.

    `retry-after-ms` goes before `retry-after`, which is seconds, or a date and then told from the answer's own.
    Source: openai-python _base_client.py (both names); RFC 9110, section 10.2.3.
    """
    given_by = dict(headers)
    for name, per_second in ((b"retry-after-ms", 1000), (b"retry-after", 1)):
        if match := _SECONDS.fullmatch(given_by.get(name, b"")):
            return float(match[1]) / per_second
    date = date_of(given_by.get(b"retry-after", b""))
    return None if date is None else seconds_until(date, headers)
