"""Cuts a JSON Schema down to the subset of OpenAPI's that `responseSchema` and `parameters` take.

Only models before 2.5 need it: from 2.5 on the schema goes as it is into `responseJsonSchema` and
`parametersJsonSchema`. What the subset cannot say is left out, so that it allows more, never less, with two
exceptions that keep the meaning: a constant becomes an enum of one, several types become `anyOf`.

Source: docs/sources.md (Gemini); ai.google.dev, structured output ("JSON Schema" is for 2.5 and later).
"""

from typing import Any, Final

_KEPT: Final = frozenset(
    {
        "type", "format", "title", "description", "nullable", "enum", "minItems", "maxItems", "required",
        "propertyOrdering", "minProperties", "maxProperties", "minimum", "maximum", "minLength", "maxLength",
        "pattern", "example", "default",
    }
)  # fmt: skip
# Where another schema stands: the subset's name for it.
_ALTERNATIVES: Final = ("anyOf", "oneOf")
_NESTED_MAX: Final = 12
"""How deep references are followed: a schema that refers to itself has no end."""

Json = dict[str, Any]


def subset_of(schema: Any) -> Json:
    """The schema in the subset; {} where it says nothing that the subset can."""
    definitions = schema.get("$defs") or schema.get("definitions") if isinstance(schema, dict) else None
    return _Subset(definitions if isinstance(definitions, dict) else {}).of(schema, 0)


class _Subset:
    """Converts the schemas of one document, whose definitions it inlines."""

    def __init__(self, definitions: Json) -> None:
        self._definitions = definitions

    def of(self, schema: Any, depth: int) -> Json:
        """One schema; {} beyond the depth, which is reached by recursion only."""
        schema = self._resolved(schema)
        if not isinstance(schema, dict) or depth > _NESTED_MAX:
            return {}
        found = {name: member for name, member in schema.items() if name in _KEPT}
        if "const" in schema:
            found["enum"] = [schema["const"]]
        self._put_nested(schema, found, depth + 1)
        _split_types(found)
        _keep_texts_of_enum(found)
        return found

    def _resolved(self, schema: Any) -> Any:
        for _ in range(_NESTED_MAX):
            if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
                return schema
            target = self._definitions.get(schema["$ref"].rsplit("/", 1)[-1])
            beside = {name: member for name, member in schema.items() if name != "$ref"}
            schema = {**target, **beside} if isinstance(target, dict) else beside
        return {}

    def _put_nested(self, schema: Json, found: Json, depth: int) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict) and properties:
            found["properties"] = {name: self.of(each, depth) for name, each in properties.items()}
        if "items" in schema:
            found["items"] = self.of(schema["items"], depth)
        for name in _ALTERNATIVES:
            if isinstance(schema.get(name), list):
                self._put_alternatives(schema[name], found, depth)

    def _put_alternatives(self, schemas: list[Any], found: Json, depth: int) -> None:
        real = [each for each in schemas if not (isinstance(each, dict) and each.get("type") == "null")]
        if len(real) < len(schemas):
            found["nullable"] = True
        if len(real) == 1:
            found.update({**self.of(real[0], depth), **found})
        elif real:
            found["anyOf"] = [self.of(each, depth) for each in real]


def _split_types(found: Json) -> None:
    """A list of types is one type or `anyOf`; null among them is `nullable`."""
    types = found.get("type")
    if not isinstance(types, list):
        return
    del found["type"]
    if "null" in types:
        found["nullable"] = True
    real = [each for each in types if each != "null"]
    if len(real) == 1:
        found["type"] = real[0]
    elif "anyOf" not in found:
        found["anyOf"] = [{"type": each} for each in real]


def _keep_texts_of_enum(found: Json) -> None:
    """An enum is of strings there, so any other is left out, and so is a null among strings."""
    values = found.get("enum")
    if values is None:
        return
    texts = [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
    if not texts or any(value is not None and not isinstance(value, str) for value in values):
        del found["enum"]
        return
    if len(texts) < len(values):
        found["nullable"] = True
    found["enum"] = texts
    found.setdefault("type", "string")
