"""OpenAI's error bodies and those of its imitators.

Source: docs/sources.md (OpenAI and its kin).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from mana_llm.simulator.flavours import Flavour
from mana_llm.simulator.reply import Headers, Reply, whole
from mana_llm.simulator.script import Fault, Json


class Problem(msgspec.Struct, frozen=True):
    """The members of an error object."""

    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None


_BY_STATUS: Final[Mapping[int, Problem]] = MappingProxyType(
    {
        401: Problem("Incorrect API key provided: simul***.", code="invalid_api_key"),
        402: Problem("Insufficient credits.", "insufficient_quota", "insufficient_quota"),
        403: Problem("This project has no access to the model.", code="unsupported_country_region_territory"),
        404: Problem("The model does not exist or you do not have access to it.", code="model_not_found"),
        413: Problem("The request is too large.", "tokens", "rate_limit_exceeded"),
        429: Problem("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
        503: Problem("The server is overloaded.", "service_unavailable_error", "server_is_overloaded"),
    }
)
_BY_REASON: Final[Mapping[str, Problem]] = MappingProxyType(
    {
        "context": Problem(
            "This model's maximum context length is 8192 tokens.",
            code="context_length_exceeded",
            param="messages",
        ),
        "quota": Problem("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
        "tool_use_failed": Problem("Failed to call a function.", code="tool_use_failed"),
    }
)


def problem_of(fault: Fault) -> Problem:
    """The error object for a fault's code, with its reason and message put in."""
    kind = "server_error" if fault.code >= 500 else "invalid_request_error"
    server = Problem("The server had an error.", kind)
    problem = _BY_REASON.get(fault.reason) or _BY_STATUS.get(fault.code, server)
    changes: Json = {"message": fault.message or problem.message}
    if fault.reason and fault.reason not in _BY_REASON:
        changes["code"] = fault.reason
    return msgspec.structs.replace(problem, **changes)


def error_object(flavour: Flavour, status: int, problem: Problem) -> Json:
    """The `error` member as this flavour writes it."""
    if flavour.error == "openrouter":
        return {"message": problem.message, "code": status}
    body: Json = {"message": problem.message, "type": problem.type}
    if flavour.error == "openai":
        body["param"] = problem.param
    body["code"] = problem.code
    if problem.code == "tool_use_failed":
        body["failed_generation"] = "<function=simulated>"
    return body


def refusal(flavour: Flavour, status: int, problem: Problem, headers: Headers = ()) -> Reply:
    """A whole error answer."""
    body: Json = {"error": error_object(flavour, status, problem)}
    if flavour.error == "openrouter":
        body["user_id"] = "user_simulated"
    return whole(status, body, headers)
