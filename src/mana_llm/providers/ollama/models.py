"""Reads /api/tags. Source: docs/sources.md (Ollama)."""

import msgspec

from mana_llm.providers.ollama.answer import unix_time
from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.models import Model
from mana_llm.schema.wire import JSONDecodeError, decode_json


class _Details(msgspec.Struct):
    context_length: int | None = None


class _Tag(msgspec.Struct):
    name: str | None = None
    model: str | None = None
    modified_at: str | None = None
    details: _Details | None = None
    capabilities: list[str] | None = None


class _Tags(msgspec.Struct):
    # null from a server without models: Go encodes an empty list so.
    models: list[_Tag] | None


def decode_list(body: bytes) -> list[Model]:
    """The models of the list, in its order.

    Raises:
        ProviderProtocolError: if the body is no such list.
    """
    try:
        tags: _Tags = decode_json(body, _Tags)
    except JSONDecodeError as error:
        raise ProviderProtocolError(f"Ollama's list of models cannot be read: {error}.") from error
    return [_model_of(tag, name) for tag in tags.models or () if (name := tag.name or tag.model)]


def _model_of(tag: _Tag, name: str) -> Model:
    return Model(
        id=name,
        created=unix_time(tag.modified_at),
        context_window=(tag.details or _Details()).context_length or None,
        capabilities=None if tag.capabilities is None else tuple(tag.capabilities),
    )
