"""What each status and error body of Gemini's means."""

import json

import pytest

from mana_llm.providers.google import Google
from mana_llm.providers.google.finish import failure_of
from mana_llm.schema import errors
from mana_llm.schema.wire import Origin

KEY = "AIzaSyMadeUpForTests_0123456789"


def google():
    return Google(Origin("https", "generativelanguage.googleapis.com", 443), "", KEY)


def problem(code, status, message="words", *details):
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
BAD_KEY = {"reason": "API_KEY_INVALID"}
TOO_LONG = "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (400, problem(400, "INVALID_ARGUMENT"), errors.ProviderRequestError, "INVALID_ARGUMENT"),
        (400, problem(400, "INVALID_ARGUMENT", "x", BAD_KEY), errors.ProviderAuthError, "provider_auth"),
        (
            400,
            problem(400, "INVALID_ARGUMENT", TOO_LONG),
            errors.ProviderRequestError,
            "context_length_exceeded",
        ),
        (400, problem(400, "FAILED_PRECONDITION"), errors.ProviderRequestError, "FAILED_PRECONDITION"),
        (401, problem(401, "UNAUTHENTICATED"), errors.ProviderAuthError, "provider_auth"),
        (402, problem(402, ""), errors.ProviderQuotaError, "insufficient_quota"),
        (403, problem(403, "PERMISSION_DENIED"), errors.ProviderAuthError, "provider_auth"),
        (404, problem(404, "NOT_FOUND"), errors.ProviderRequestError, "model_not_found"),
        (408, {}, errors.ProviderServerError, "provider_server"),
        (429, problem(429, "RESOURCE_EXHAUSTED"), errors.ProviderRateLimitError, "rate_limit_exceeded"),
        (
            429,
            problem(429, "RESOURCE_EXHAUSTED", "x", PER_DAY),
            errors.ProviderQuotaError,
            "insufficient_quota",
        ),
        (429, [problem(429, "RESOURCE_EXHAUSTED")], errors.ProviderRateLimitError, "rate_limit_exceeded"),
        (499, problem(499, "CANCELLED"), errors.ProviderServerError, "provider_server"),
        (500, problem(500, "INTERNAL"), errors.ProviderServerError, "provider_server"),
        (503, problem(503, "UNAVAILABLE"), errors.ProviderServerError, "provider_server"),
        (504, problem(504, "DEADLINE_EXCEEDED"), errors.ProviderServerError, "provider_server"),
        (307, {}, errors.ProviderServerError, "provider_server"),
        (200, [problem(503, "UNAVAILABLE")], errors.ProviderServerError, "provider_server"),
        (200, {}, errors.ProviderProtocolError, "provider_protocol"),
        (200, [], errors.ProviderProtocolError, "provider_protocol"),
        (413, "<html>", errors.ProviderRequestError, None),
    ],
)
def test_error_has_its_class_when_gemini_answers_a_status(status, body, error, code):
    """Each row of the table of statuses, in an array or not."""
    got = google().decode_error(status, [], json.dumps(body).encode())
    assert (type(got), got.code) == (error, code)


@pytest.mark.parametrize(("delay", "wait"), [("48s", 48.0), ("34.4s", 34.4), ("-1s", None), ("soon", None), (5, None)])
def test_wait_is_the_retry_infos_when_no_header_says_it(delay, wait):
    """Google puts the wait into the details; a header, if there is one, goes before it."""
    body = json.dumps(problem(429, "RESOURCE_EXHAUSTED", "x", {"retryDelay": delay}, 7)).encode()
    assert google().decode_error(429, [], body).retry_after_s == wait
    assert google().decode_error(429, [(b"retry-after", b"2")], body).retry_after_s == 2.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_key_is_in_no_message_when_google_quotes_it(status):
    """A provider that quotes our key does not make us say it."""
    body = json.dumps(problem(status, "X", f"Consumer 'api_key:{KEY}' has been suspended.", BAD_KEY)).encode()
    assert KEY not in google().decode_error(status, [], body).message


@pytest.mark.parametrize("reason", ["NO_IMAGE", "IMAGE_OTHER"])
def test_answer_is_blocked_when_no_image_came_and_nothing_was_said(reason):
    """An answer that ends without the image that was asked for, and without a word, is no success."""
    failure = failure_of(reason, has_content=False)
    assert isinstance(failure, errors.ProviderBlockedError)
    assert failure_of(reason, has_content=True) is None
