"""What generateContent answers, as typed structs; unknown members are dropped. Source: docs/sources.md (Gemini)."""

from typing import Any

import msgspec

from mana_llm.providers.google.errors import error_in, tells_error
from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.usage import Usage, usage_of
from mana_llm.schema.wire import JSONDecodeError, decode_json


class FunctionCall(msgspec.Struct):
    """A call; no 2.x model gives it an id, from 3.5 on all do."""

    id: str | None = None
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")


class Blob(msgspec.Struct, rename="camel"):
    """Inline bytes, base64."""

    mime_type: str | None = None
    data: str | None = None


class GeminiPart(msgspec.Struct, rename="camel"):
    """One part; `thought` marks reasoning, `thought_signature` may sit on any kind."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None


class Content(msgspec.Struct):
    """A turn; `parts` may be missing."""

    parts: list[GeminiPart] | None = None


class TokenLogprob(msgspec.Struct, rename="camel"):
    """One token and its log probability."""

    token: str | None = None
    log_probability: float | None = None


class TopTokens(msgspec.Struct):
    """The likeliest tokens at one place."""

    candidates: list[TokenLogprob] | None = None


class LogprobsResult(msgspec.Struct, rename="camel"):
    """The chosen tokens and, at the same index, the likeliest ones."""

    chosen_candidates: list[TokenLogprob] | None = None
    top_candidates: list[TopTokens] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    """One choice; `finish_reason` is an int where enum-encoding=int was asked for."""

    content: Content | None = None
    finish_reason: str | int | None = None
    index: int | None = None
    logprobs_result: LogprobsResult | None = None


class PromptFeedback(msgspec.Struct, rename="camel"):
    """Why a prompt was not answered."""

    block_reason: str | int | None = None


class UsageMetadata(msgspec.Struct, rename="camel"):
    """Token counts; the prompt's include the cached ones, the candidates' do not include the thoughts."""

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class Answer(msgspec.Struct, rename="camel"):
    """A whole answer, or one event of a streamed one. `error` is empty bytes if there is none."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = msgspec.Raw()


def read_answer(data: bytes) -> Answer:
    """One object of an answer.

    Raises:
        ProviderProtocolError: if it is none.
        ProviderError: the one that it tells, if it is an error.
    """
    try:
        answer: Answer = decode_json(data, Answer)
    except JSONDecodeError as error:
        raise ProviderProtocolError(f"Gemini's answer cannot be read: {error}.") from error
    if tells_error(answer.error):
        raise error_in(answer.error)
    return answer


def usage_in(counts: UsageMetadata | None) -> Usage | None:
    """OpenAI's counts: the prompt with the tools' own prompts, the completion with the thoughts."""
    if counts is None:
        return None
    return usage_of(
        max((counts.prompt_token_count or 0) + (counts.tool_use_prompt_token_count or 0), 0),
        max((counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0), 0),
        counts.cached_content_token_count,
        counts.thoughts_token_count,
    )


def logprobs_in(candidate: Candidate) -> dict[str, Any] | None:
    """Log probabilities in OpenAI's shape."""
    result = candidate.logprobs_result
    if result is None or not result.chosen_candidates:
        return None
    tops = [top.candidates or [] for top in result.top_candidates or []]
    tops += [[]] * (len(result.chosen_candidates) - len(tops))
    rows = [
        {**_row(chosen), "top_logprobs": [_row(token) for token in top]}
        for chosen, top in zip(result.chosen_candidates, tops, strict=False)
    ]
    return {"content": rows, "refusal": None}


def _row(token: TokenLogprob) -> dict[str, Any]:
    text = token.token or ""
    return {"token": text, "logprob": token.log_probability or 0.0, "bytes": list(text.encode())}
