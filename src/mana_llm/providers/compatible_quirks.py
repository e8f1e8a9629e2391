"""Where a server that speaks OpenAI's API differs from it: plain values, so that a row or a file can say them."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

INPUTS_MAX: Final = 2048
"""Inputs in one call for embeddings. Source: OpenAI's OpenAPI description 2.3.0."""

Reasoning = Literal["any", "reasoning", "reasoning_content", "refused"]
"""Under which name a server takes an assistant message's reasoning back: as it came, under one name, not at all."""


class EmbeddingQuirks(msgspec.Struct, frozen=True):
    """Where embeddings differ.

    `renames` maps request fields to the server's own names. A call holds at most `inputs_max` inputs; more become
    several calls. `int8` says that vectors come as base64 of signed bytes, whatever was asked for. `tokens` is False
    where inputs must be texts.
    """

    renames: Mapping[str, str] = {}
    inputs_max: int = INPUTS_MAX
    int8: bool = False
    tokens: bool = True


class Quirks(msgspec.Struct, frozen=True):
    """Where a server differs from OpenAI.

    `finish_reasons` maps its own words to OpenAI's; `error` among these is a failure. `asks_usage` is False where
    `stream_options` is refused. `new_ceiling` is what the names of the models begin with that refuse `max_tokens` and
    take `max_completion_tokens`. `call_ids` is a regular expression for the ids of calls that it takes, "" for any.
    `renames` maps request fields to the server's own names, `tool_choices` the words of `tool_choice`; `drops` are
    fields that it refuses and without which the request means the same, `message_drops` likewise members of a
    message. `reasoning` is how it takes reasoning back; `wants_thoughts` says that it refuses an assistant's calls
    without it, and that its calls' ids are random. `extra_content` is True where that member of messages and calls
    (what another provider wants back, such as thought signatures) is passed on. `embeddings` is None where there are
    none. `listing` is what stands before `/models` and `/embeddings` but not before `/chat/completions`.
    """

    finish_reasons: Mapping[str, str] = {}
    asks_usage: bool = True
    new_ceiling: tuple[str, ...] = ()
    call_ids: str = ""
    renames: Mapping[str, str] = {}
    tool_choices: Mapping[str, str] = {}
    drops: tuple[str, ...] = ()
    message_drops: tuple[str, ...] = ()
    reasoning: Reasoning = "any"
    wants_thoughts: bool = False
    extra_content: bool = False
    embeddings: EmbeddingQuirks | None = EmbeddingQuirks()
    listing: str = ""
