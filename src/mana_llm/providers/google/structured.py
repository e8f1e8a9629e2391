"""Turns `response_format` into Gemini's members for structured answers. Source: docs/sources.md (Gemini)."""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import Fields, Typed, cannot, read
from mana_llm.providers.google.generation import is_before
from mana_llm.providers.google.schema_subset import subset_of
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import decode_json

_JSON: Final = {"responseMimeType": "application/json"}


class _Schema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class _RawSchema(msgspec.Struct):
    schema: msgspec.Raw = msgspec.Raw()


class _Format(msgspec.Struct):
    json_schema: _Schema | None = None


class _RawFormat(msgspec.Struct):
    json_schema: _RawSchema


def is_structured(fields: Fields) -> bool:
    """Whether the answer is to be JSON."""
    wanted = read(fields, "response_format", Typed)
    return wanted is not None and wanted.type in ("json_object", "json_schema")


def format_config(fields: Fields, model: str, *, has_tools: bool) -> dict[str, Any]:
    """The members of generationConfig; empty for text.

    Raises:
        RequestError: if the format cannot be read.
        ProviderCapabilityError: for a format that is not known here, and for JSON together with tools where
            the model is known to refuse that (before Gemini 3).
    """
    wanted: Typed | None = read(fields, "response_format", Typed)
    if wanted is None or wanted.type == "text":
        return {}
    if wanted.type not in ("json_object", "json_schema"):
        raise cannot("response_format", f"answers of the type '{wanted.type[:40]}'")
    if has_tools and is_before(model, (3, 0)):
        raise cannot("response_format", "structured answers together with tools")
    return {**_JSON, **(_schema_config(fields, model) if wanted.type == "json_schema" else {})}


def _schema_config(fields: Fields, model: str) -> dict[str, Any]:
    checked: _Format = read(fields, "response_format", _Format)
    if checked.json_schema is None:
        raise RequestError("'response_format.json_schema' is missing.", param="response_format.json_schema")
    if checked.json_schema.schema is None:
        return {}
    if is_before(model, (2, 5)):
        return {"responseSchema": subset_of(checked.json_schema.schema)}
    # Verbatim: the order of members matters to the model, and numbers stay as they were written.
    raw: _RawFormat = decode_json(fields["response_format"], _RawFormat)
    return {"responseJsonSchema": raw.json_schema.schema}
