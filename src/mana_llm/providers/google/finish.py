"""What Gemini's finish and block reasons mean. Source: docs/sources.md (Gemini).

Gemini says STOP after function calls too, and answers 200 where it refuses: the reason alone tells an answer
from a block, a cut, or a failure of the model.
"""

from typing import Final

from mana_llm.providers.google.wire import Answer
from mana_llm.schema.errors import (
    ProviderBlockedError,
    ProviderError,
    ProviderServerError,
    ProviderTruncatedError,
)

# Source: google.ai.generativelanguage v1beta, Candidate.FinishReason and PromptFeedback.BlockReason.
_FINISH_NUMBERS: Final = {
    0: "FINISH_REASON_UNSPECIFIED",
    1: "STOP",
    2: "MAX_TOKENS",
    3: "SAFETY",
    4: "RECITATION",
    5: "OTHER",
    6: "LANGUAGE",
    7: "BLOCKLIST",
    8: "PROHIBITED_CONTENT",
    9: "SPII",
    10: "MALFORMED_FUNCTION_CALL",
    11: "IMAGE_SAFETY",
    12: "UNEXPECTED_TOOL_CALL",
    13: "TOO_MANY_TOOL_CALLS",
}
_BLOCK_NUMBERS: Final = {1: "SAFETY", 2: "OTHER", 3: "BLOCKLIST", 4: "PROHIBITED_CONTENT", 5: "IMAGE_SAFETY"}
_UNFINISHED: Final = frozenset({"", "FINISH_REASON_UNSPECIFIED"})
# LANGUAGE and OTHER have no word of their own in OpenAI's API; the answer was stopped by Google, so it is
# this one.
_FILTERED: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
        "LANGUAGE",
        "OTHER",
    }
)
# Asked for an image and none came: with nothing else said, that is no answer.
_NOTHING: Final = frozenset({"NO_IMAGE", "IMAGE_OTHER"})
_FAILED: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    }
)
_REASON_CHARS_MAX: Final = 60


def finish_name(reason: str | int | None) -> str:
    """The reason's name; "" while the candidate is not finished."""
    name = _FINISH_NUMBERS.get(reason, f"REASON_{reason}") if isinstance(reason, int) else reason or ""
    return "" if name in _UNFINISHED else name[:_REASON_CHARS_MAX]


def finish_reason(name: str, *, has_calls: bool) -> str:
    """OpenAI's word for the reason called `name`; one that is new to us is a plain stop."""
    if name == "MAX_TOKENS":
        return "length"
    if name in _FILTERED:
        return "content_filter"
    return "tool_calls" if has_calls else "stop"


def failure_of(name: str, *, has_content: bool) -> ProviderError | None:
    """The error that a finish is: a model that failed, at any time; a block or a cut, only before content."""
    if name in _FAILED:
        return ProviderServerError(f"Gemini could not finish the answer: {name}.", health="none")
    if has_content:
        return None
    if name == "MAX_TOKENS":
        return ProviderTruncatedError("The token ceiling was reached before any content. Raise max_tokens.")
    if name in _FILTERED or name in _NOTHING:
        return ProviderBlockedError(f"Gemini stopped the answer before any content: {name}.")
    return None


def block_of(answer: Answer) -> ProviderBlockedError | None:
    """The error that an answer without candidates is, if the prompt was blocked."""
    reason = answer.prompt_feedback.block_reason if answer.prompt_feedback else None
    if not reason or answer.candidates:
        return None
    name = _BLOCK_NUMBERS.get(reason, f"REASON_{reason}") if isinstance(reason, int) else reason
    return ProviderBlockedError(f"Gemini blocked the prompt: {name[:_REASON_CHARS_MAX]}.")
