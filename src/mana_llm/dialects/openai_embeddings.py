"""OpenAI's embeddings, as clients speak it.

Source: OpenAI's OpenAPI description 2.3.0; openai-python 3.x, which asks for base64 unless told otherwise.
"""

from typing import Any, Final

import msgspec

from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest, Encoding
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import NULL, JSONDecodeError, decoder_of, encode_json

INPUTS_MAX: Final = 2048

Fields = dict[str, msgspec.Raw]

_text: Final = decoder_of(str)
_texts: Final = decoder_of(list[str])
_tokens: Final = decoder_of(list[int])
_token_lists: Final = decoder_of(list[list[int]])
_name: Final = decoder_of(str | None)
_encoding: Final = decoder_of(Encoding | None)
_dimensions: Final = decoder_of(int | None)
_INPUT: Final = "a text, a list of texts, a list of tokens, or a list of lists of tokens"


def read_embeddings(fields: Fields) -> EmbeddingsRequest:
    """Read what routing and providers need; everything else stays as bytes.

    Raises:
        RequestError: 400 with the place in `param` and what to do in the message.
    """
    texts, count = _input(fields.get("input", NULL))
    model = _member(fields, "model", _name)
    if not model:
        raise RequestError("`model` is required; GET /v1/models lists them.", code="missing", param="model")
    dimensions = _member(fields, "dimensions", _dimensions)
    if dimensions is not None and dimensions < 1:
        raise RequestError("`dimensions` must be at least 1.", code="integer_below_min_value", param="dimensions")
    encoding = _member(fields, "encoding_format", _encoding)
    return EmbeddingsRequest(fields, model, texts, count, encoding or "float", dimensions)


def write_embeddings(embeddings: Embeddings, resolved: str) -> bytes:
    """The answer, naming the model that gave it."""
    fields = embeddings.fields
    fields["object"] = "list"
    fields["model"] = resolved
    if fields.get("usage", NULL) == NULL and embeddings.usage:
        tokens = embeddings.usage.tokens_in
        fields["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return encode_json(fields)


def _input(raw: msgspec.Raw) -> tuple[list[str] | None, int]:
    """The texts, None where tokens were given, and how many inputs there are."""
    if raw == NULL:
        raise RequestError(f"`input` is required: {_INPUT}.", code="missing", param="input")
    start = bytes(memoryview(raw)[:64]).split(maxsplit=1)
    try:
        texts, count = _read_input(raw, b"".join(start)[:2])
    except JSONDecodeError as error:
        raise RequestError(f"`input` must be {_INPUT}: {error}.", code="invalid_type", param="input") from error
    if not count:
        raise RequestError("`input` is empty; send at least one text.", code="empty_array", param="input")
    if count > INPUTS_MAX:
        message = f"`input` has {count} entries; send at most {INPUTS_MAX} at once."
        raise RequestError(message, code="array_above_max_length", param="input")
    return texts, count


def _read_input(raw: msgspec.Raw, start: bytes) -> tuple[list[str] | None, int]:
    """By its first characters: a text, texts, lists of tokens, or one list of tokens."""
    if start[:1] == b'"':
        text = _text(raw)
        if not text:
            raise RequestError("`input` is an empty text.", code="empty_string", param="input")
        return [text], 1
    if start == b'["':
        texts = _texts(raw)
        return texts, len(texts)
    if start == b"[[":
        lists = _token_lists(raw)
        if not all(lists):
            raise RequestError("`input` holds an empty list.", code="empty_array", param="input")
        return None, len(lists)
    return None, 1 if _tokens(raw) else 0


def _member(fields: Fields, name: str, decode: Any) -> Any:
    """One member, decoded; None if it is absent."""
    try:
        return decode(fields.get(name, NULL))
    except JSONDecodeError as error:
        raise RequestError(f"`{name}` cannot be used: {error}.", code="invalid_value", param=name) from error
