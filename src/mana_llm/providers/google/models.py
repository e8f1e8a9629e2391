"""Reads /v1beta/models. Source: docs/sources.md (Gemini).

A list is one call here, so `nextPageToken` is not followed: a page of the largest size is asked for, and what it
holds is the list. Google lists some fifty models; without a size it gives fifty and a token (both recorded).
"""

from typing import Final

import msgspec

from mana_llm.providers.google.generation import bare
from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.models import Model
from mana_llm.schema.wire import JSONDecodeError, decode_json

# One vocabulary for all providers: completion, embedding, thinking, tools, vision ...
_CAPABILITIES: Final = {"generateContent": "completion", "embedContent": "embedding"}


class _Row(msgspec.Struct, rename="camel"):
    name: str | None = None
    input_token_limit: int | None = None
    supported_generation_methods: list[str] | None = None
    thinking: bool | None = None


class _Rows(msgspec.Struct):
    # An empty list is left out, as everything empty is in proto JSON.
    models: list[_Row] | None = None


def decode_list(body: bytes) -> list[Model]:
    """The models that chat or embed, in the list's order.

    Raises:
        ProviderProtocolError: if the body is no such list.
    """
    try:
        rows: _Rows = decode_json(body, _Rows)
    except JSONDecodeError as error:
        raise ProviderProtocolError(f"Gemini's list of models cannot be read: {error}.") from error
    models = (_model_of(row) for row in rows.models or ())
    return [model for model in models if model is not None]


def _model_of(row: _Row) -> Model | None:
    methods = row.supported_generation_methods or ()
    capabilities = [_CAPABILITIES[method] for method in methods if method in _CAPABILITIES]
    if not row.name or not capabilities:
        return None
    if "completion" in capabilities:
        capabilities += [ability for ability, has in (*_abilities(row.name), ("thinking", row.thinking)) if has]
    return Model(
        id=bare(row.name),
        context_window=row.input_token_limit or None,
        capabilities=tuple(dict.fromkeys(capabilities)),
    )


def _abilities(name: str) -> tuple[tuple[str, bool], ...]:
    """What the list does not say and the vendor's pages do: every Gemini that chats sees and calls functions.

    Not so those that speak; those that draw see, but call nothing. Of Gemma nothing is said here.
    Source: ai.google.dev, models.
    """
    is_gemini = bare(name).startswith("gemini-") and "-tts" not in name
    return ("vision", is_gemini), ("tools", is_gemini and "-image" not in name)
