"""What an answer used, in OpenAI's words."""

from typing import Any, Final

import msgspec

from mana_llm.schema.wire import JSONDecodeError, decoder_of


class PromptTokensDetails(msgspec.Struct, omit_defaults=True):
    """The part of the prompt that the provider had in its cache."""

    cached_tokens: int | None = None


class CompletionTokensDetails(msgspec.Struct, omit_defaults=True):
    """The part of the completion that was reasoning."""

    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts; `cached_tokens` is a part of the prompt's, `reasoning_tokens` of the completion's.

    Decoded leniently: a provider's null counts as nothing was said.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @property
    def tokens_in(self) -> int:
        """Prompt tokens, never negative (a broken upstream may say so)."""
        return max(self.prompt_tokens or 0, 0)

    @property
    def tokens_out(self) -> int:
        """Completion tokens, never negative."""
        return max(self.completion_tokens or 0, 0)


decode_usage: Final = decoder_of(Usage | None)
"""Usage as JSON; raises JSONDecodeError where it is none."""


def usage_of(tokens_in: int, tokens_out: int, cached: int | None = None, reasoning: int | None = None) -> Usage:
    """Build the usage of a translated answer; details appear only where the provider gave them."""
    return Usage(
        prompt_tokens=tokens_in,
        completion_tokens=tokens_out,
        total_tokens=tokens_in + tokens_out,
        prompt_tokens_details=None if cached is None else PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning),
    )


def read_usage(value: Any) -> Usage | None:
    """Usage as a chunk carries it: a Usage, JSON, or None; JSON that is no usage counts as nothing was said."""
    if value is None or isinstance(value, Usage):
        return value
    try:
        usage: Usage | None = decode_usage(value)
    except JSONDecodeError:
        return None
    return usage
