"""Embeddings of OpenAI-compatible servers: the client's members out, vectors in the form that it wants back.

Source: OpenAI's OpenAPI description 2.3.0; recorded traffic of OpenRouter, Mistral and Perplexity.
"""

import binascii
from typing import Any, Final

import msgspec

from mana_llm.kit.vectors import base64_of, floats_of
from mana_llm.providers.compatible_answer import tidy_usage
from mana_llm.providers.compatible_quirks import EmbeddingQuirks
from mana_llm.providers.compatible_request import adapted
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.usage import Usage, decode_usage, usage_of
from mana_llm.schema.wire import (
    NULL,
    JSONDecodeError,
    decode_envelopes,
    decode_text,
    decoder_of,
    encode_json,
)

CHARACTERS_PER_TOKEN: Final = 4
NO_TOKENS: Final = (
    "This provider embeds texts, not tokens. Send 'input' as text; langchain's OpenAIEmbeddings does so with"
    " check_embedding_ctx_length=False."
)

Fields = dict[str, Any]

_floats: Final = decoder_of(list[float])
_index: Final = decoder_of(int)
_rows: Final = decoder_of(list[msgspec.Raw])


def embeddings_bodies(
    request: EmbeddingsRequest, model: str, quirks: EmbeddingQuirks, drops: tuple[str, ...]
) -> tuple[list[bytes], tuple[str, ...]]:
    """The calls' bodies, each with as many inputs as one may hold, and the names of what was dropped."""
    fields, ignored = adapted({**request.fields, "model": model}, quirks.renames, drops)
    if quirks.int8:
        fields.pop("encoding_format", None)
    if request.count <= quirks.inputs_max:
        return [encode_json(fields)], ignored
    inputs = _rows(fields["input"])
    pieces = (inputs[at : at + quirks.inputs_max] for at in range(0, len(inputs), quirks.inputs_max))
    return [encode_json({**fields, "input": piece}) for piece in pieces], ignored


def embeddings_of(answers: list[Fields], request: EmbeddingsRequest, *, int8: bool) -> Embeddings:
    """The answers, in the order of their calls, as one; the members of the first stand for all.

    Raises:
        ProviderProtocolError: if they are no embeddings, or not as many as there were inputs.
    """
    try:
        rows: list[Fields] = []
        for answer in answers:
            rows += _read_rows(answer["data"], len(rows), request, int8=int8)
        usages = [usage for answer in answers if (usage := decode_usage(answer.get("usage", NULL)))]
    except KeyError as error:
        raise ProviderProtocolError(f"the answer holds no embeddings: {error} is missing") from error
    except (msgspec.MsgspecError, JSONDecodeError, ValueError, OverflowError, RecursionError) as error:
        # Vectors are numbers: nothing of a prompt is in what is wrong with them.
        raise ProviderProtocolError(f"the answer's embeddings cannot be read: {error}") from error
    if len(rows) != request.count:
        raise ProviderProtocolError(f"{len(rows)} embeddings came for {request.count} inputs")
    fields = answers[0]
    fields["data"] = rows
    if len(usages) == len(answers) and any(usage.prompt_tokens is not None for usage in usages):
        total = Usage(sum(usage.tokens_in for usage in usages), total_tokens=sum(_total(usage) for usage in usages))
        fields["usage"] = tidy_usage(fields["usage"])[0] if len(answers) == 1 else _shown(total)
        return Embeddings(fields, total)
    estimate = usage_of(_estimated(request), 0)
    fields["usage"] = _shown(estimate)
    return Embeddings(fields, estimate, estimated=True)


def _read_rows(raw: msgspec.Raw, before: int, request: EmbeddingsRequest, *, int8: bool) -> list[Fields]:
    """The rows of one answer, by their index; `before` rows came with earlier answers."""
    rows: list[Fields] = decode_envelopes(raw)
    places = [_index(row.get("index", NULL)) if "index" in row else at for at, row in enumerate(rows)]
    if sorted(places) != list(range(len(rows))):
        # Some count every row as 0: then they come in the order of the inputs.
        places = list(range(len(rows)))
    for place, row in zip(places, rows, strict=True):
        row["index"] = before + place
        row["embedding"] = _as_wanted(row["embedding"], wants_text=request.encoding == "base64", int8=int8)
        row.setdefault("object", "embedding")
    return sorted(rows, key=lambda row: int(row["index"]))


def _as_wanted(raw: msgspec.Raw, *, wants_text: bool, int8: bool) -> Any:
    """A vector in the form that the client wants; as it came if it came so."""
    start = bytes(memoryview(raw)[:1])
    is_text = start == b'"'
    if not is_text and start != b"[":
        raise ValueError("a vector is neither a list nor a text")
    if is_text and int8:
        signed = memoryview(binascii.a2b_base64(decode_text(raw), strict_mode=True)).cast("b").tolist()
        return base64_of(signed) if wants_text else signed
    if is_text == wants_text:
        return raw
    return base64_of(_floats(raw)) if wants_text else floats_of(decode_text(raw))


def _total(usage: Usage) -> int:
    return usage.tokens_in if usage.total_tokens is None else usage.total_tokens


def _shown(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.tokens_in, "total_tokens": _total(usage)}


def _estimated(request: EmbeddingsRequest) -> int:
    """The tokens of the inputs: counted where they came as tokens, else a quarter of the characters."""
    if request.texts is not None:
        return sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text in request.texts)
    given = request.fields["input"]
    rows = [given] if request.count == 1 else _rows(given)
    return sum(bytes(row).count(b",") + 1 for row in rows)
