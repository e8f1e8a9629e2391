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
# A proxy may write out defaults; these block nothing. The second is python-genai's spelling.
_UNBLOCKED: Final = frozenset({"", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED"})
BLOCKED: Final = "PROHIBITED_CONTENT"
"""How a choice is finished that the prompt's block ended."""
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
# Asked for an image and none came: with nothing else said, that is no answer; a text was all that there was.
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
    """OpenAI's word for the reason called `name`; one that is not known here is as OTHER, Google's word for such.

    Only STOP says that the model had said all: to call anything else a stop would pass a cut answer for a whole.
    """
    if name == "MAX_TOKENS":
        return "length"
    if name == "STOP" or name in _NOTHING:
        return "tool_calls" if has_calls else "stop"
    return "content_filter"


def failure_of(name: str, *, has_content: bool) -> ProviderError | None:
    """The error that a finish is: a model that failed, at any time; a block or a cut, only before content.

    A reason that is not known here is no block for sure, so that without content the next model is asked; an
    empty answer is a success only where the model itself says that it is done.
    """
    if name in _FAILED:
        return ProviderServerError(f"Gemini could not finish the answer: {name}.", health="none")
    if has_content:
        return None
    if name == "MAX_TOKENS":
        return ProviderTruncatedError("The token ceiling was reached before any content. Raise max_tokens.")
    if name in _FILTERED or name in _NOTHING:
        return ProviderBlockedError(f"Gemini stopped the answer before any content: {name}.")
    if name == "STOP":
        return None
    return ProviderServerError(f"Gemini ended the answer before any content: {name}.", health="none")


def block_of(answer: Answer) -> ProviderBlockedError | None:
    """The error that an answer is, unless it holds content, if it says that the prompt was blocked."""
    reason = (answer.prompt_feedback.block_reason if answer.prompt_feedback else "") or ""
    name = _BLOCK_NUMBERS.get(reason, f"REASON_{reason}") if isinstance(reason, int) else reason
    if name in _UNBLOCKED:
        return None
    return ProviderBlockedError(f"Gemini blocked the prompt: {name[:_REASON_CHARS_MAX]}.")
