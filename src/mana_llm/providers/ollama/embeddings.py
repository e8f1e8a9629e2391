"""Embeddings by /api/embed. Source: docs/sources.md (Ollama)."""

from typing import Any, Final

import msgspec

from mana_llm.kit.vectors import base64_of
from mana_llm.providers.failures.fields import given
from mana_llm.providers.ollama.errors import error_in
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import ProviderCapabilityError, ProviderProtocolError
from mana_llm.schema.usage import usage_of
from mana_llm.schema.wire import JSONDecodeError, decoder_of, encode_json

INPUTS_MAX: Final = 512
"""Texts of one call. Ollama has no limit of its own; this one bounds the answer, about 5 MB for 1024 numbers each."""

_CARRIED: Final = frozenset({"model", "input", "encoding_format", "dimensions"})
# Source: docs/behaviour.md, usage that a provider does not report.
_CHARS_PER_TOKEN: Final = 4


class _Embedded(msgspec.Struct):
    # null from a server that was given nothing: Go encodes an empty list so.
    embeddings: list[list[float]] | None = None
    model: str | None = None
    prompt_eval_count: int | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode: Final = decoder_of(_Embedded)


def encode_inputs(request: EmbeddingsRequest, model: str) -> list[bytes]:
    """The bodies of the calls, in the order of the inputs; a text too long is cut by the server, as by default.

    Raises:
        ProviderCapabilityError: if tokens were given.
    """
    if request.texts is None:
        raise ProviderCapabilityError(
            "Ollama embeds texts, and tokens were given. Send strings: in langchain's OpenAIEmbeddings, set "
            "check_embedding_ctx_length=False.",
            param="input",
        )
    more = {} if request.dimensions is None else {"dimensions": request.dimensions}
    texts = request.texts
    batches = [texts[at : at + INPUTS_MAX] for at in range(0, len(texts), INPUTS_MAX)] or [[]]
    return [encode_json({"model": model, "input": batch, **more}) for batch in batches]


def ignored_members(request: EmbeddingsRequest) -> tuple[str, ...]:
    """The given fields that have no place here, sorted."""
    fields = request.fields
    return tuple(sorted(name for name in fields if name not in _CARRIED and given(fields, name) is not None))


def decode_vectors(bodies: list[bytes], request: EmbeddingsRequest) -> Embeddings:
    """The vectors of all answers, in their order.

    Raises:
        ProviderProtocolError: if an answer cannot be read, or there are more or fewer vectors than inputs.
        ProviderServerError: if an answer is an error.
    """
    answers = [_read(body) for body in bodies]
    vectors = [vector for answer in answers for vector in answer.embeddings or ()]
    if len(vectors) != request.count:
        raise ProviderProtocolError(f"Ollama gave {len(vectors)} vectors for {request.count} inputs.")
    written = _written(vectors, request)
    rows = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(written)]
    counts = [answer.prompt_eval_count for answer in answers if answer.prompt_eval_count is not None]
    estimated = len(counts) < len(answers)
    tokens = _estimate(request) if estimated else max(sum(counts), 0)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    fields: dict[str, Any] = {"object": "list", "data": rows, "model": answers[0].model or "", "usage": usage}
    return Embeddings(fields, usage_of(tokens, 0), estimated)


def _read(body: bytes) -> _Embedded:
    try:
        answer: _Embedded = _decode(body)
    except JSONDecodeError as error:
        raise ProviderProtocolError(f"Ollama's embeddings cannot be read: {error}.") from error
    if answer.error:
        raise error_in(answer.error)
    return answer


def _written(vectors: list[list[float]], request: EmbeddingsRequest) -> list[Any]:
    if request.encoding == "float":
        return list(vectors)
    try:
        return [base64_of(vector) for vector in vectors]
    except OverflowError as error:
        raise ProviderProtocolError("Ollama gave a vector with a number that is no 32-bit float.") from error


def _estimate(request: EmbeddingsRequest) -> int:
    characters = sum(map(len, request.texts or ()))
    return -(-characters // _CHARS_PER_TOKEN)
