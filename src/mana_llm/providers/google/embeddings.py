"""Embeddings by :batchEmbedContents. Source: docs/sources.md (Gemini).

gemini-embedding-001 reports no usage, so that it is estimated, and its vectors have the length 1 only where
none was cut: OpenAI's always have, so a cut one is stretched again.
"""

from math import ceil, hypot
from typing import Any, Final

import msgspec

from mana_llm.kit.vectors import base64_of
from mana_llm.providers.failures.fields import given
from mana_llm.providers.google.errors import error_in, tells_error
from mana_llm.providers.google.generation import bare
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import ProviderCapabilityError, ProviderProtocolError
from mana_llm.schema.usage import Usage
from mana_llm.schema.wire import JSONDecodeError, decoder_of, encode_json

BATCH_MAX: Final = 100
"""Texts in one call."""
_CARRIED: Final = frozenset({"model", "input", "encoding_format", "dimensions"})
_CHARACTERS_PER_TOKEN: Final = 4
"""Source: docs/behaviour.md, for usage that no provider reports."""


class _Counts(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None


class _Vector(msgspec.Struct):
    values: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector] = []
    usage_metadata: _Counts | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode: Final = decoder_of(_Answer)
_decode_vector: Final = decoder_of(list[float])


def encode_batches(request: EmbeddingsRequest, model: str) -> list[bytes]:
    """The bodies, each with as many texts as one call may have.

    Raises:
        ProviderCapabilityError: if tokens were given: only texts can be embedded here.
    """
    if request.texts is None:
        raise ProviderCapabilityError(
            "This provider embeds texts, not tokens. Send 'input' as text; langchain's OpenAIEmbeddings does so"
            " with check_embedding_ctx_length=False.",
            param="input",
        )
    around: dict[str, Any] = {"model": f"models/{bare(model)}"}
    if request.dimensions is not None:
        around["outputDimensionality"] = request.dimensions
    rows = [{**around, "content": {"parts": [{"text": text}]}} for text in request.texts]
    return [encode_json({"requests": rows[at : at + BATCH_MAX]}) for at in range(0, len(rows), BATCH_MAX)]


def ignored_members(request: EmbeddingsRequest) -> tuple[str, ...]:
    """The given fields that have no place here, sorted."""
    fields = request.fields
    return tuple(sorted(name for name in fields if name not in _CARRIED and given(fields, name) is not None))


def decode_batches(bodies: list[bytes], request: EmbeddingsRequest) -> Embeddings:
    """The answers to those bodies as one.

    Raises:
        ProviderProtocolError: if one is no such answer, or a vector is missing.
        ProviderError: the one that an answer tells, if it is an error.
    """
    answers = [_read(body) for body in bodies]
    vectors = [vector.values for answer in answers for vector in answer.embeddings]
    if len(vectors) != request.count:
        raise ProviderProtocolError(f"Gemini gave {len(vectors)} embeddings for {request.count} texts.")
    rows = [
        {"object": "embedding", "index": index, "embedding": _embedding_of(vector, request)}
        for index, vector in enumerate(vectors)
    ]
    counts = [answer.usage_metadata.prompt_token_count if answer.usage_metadata else None for answer in answers]
    known = [count for count in counts if count is not None]
    estimated = len(known) < len(counts)
    tokens = _estimate(request.texts or []) if estimated else sum(known)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    fields = {"object": "list", "data": rows, "model": request.model, "usage": usage}
    return Embeddings(fields, Usage(prompt_tokens=tokens, total_tokens=tokens), estimated)


def _read(body: bytes) -> _Answer:
    try:
        answer: _Answer = _decode(body)
    except JSONDecodeError as error:
        raise ProviderProtocolError(f"Gemini's embeddings cannot be read: {error}.") from error
    if tells_error(answer.error):
        raise error_in(answer.error)
    return answer


def _embedding_of(raw: msgspec.Raw, request: EmbeddingsRequest) -> msgspec.Raw | list[float] | str:
    """A vector as the client wants it; one that needs no change is not decoded."""
    if request.dimensions is None and request.encoding == "float":
        if bytes(memoryview(raw)[:1]) != b"[":
            raise ProviderProtocolError("Gemini gave an embedding that is no list.")
        return raw
    try:
        vector: list[float] = _decode_vector(raw)
        if request.dimensions is not None and (length := hypot(*vector)):
            vector = [value / length for value in vector]
        return vector if request.encoding == "float" else base64_of(vector)
    except (JSONDecodeError, OverflowError) as error:
        raise ProviderProtocolError("Gemini gave an embedding that is no list of numbers.") from error


def _estimate(texts: list[str]) -> int:
    return ceil(sum(map(len, texts)) / _CHARACTERS_PER_TOKEN)
