"""As much of JSON Schema (draft 7) as the aliases' schema uses; anything else in a schema is an error here."""

import re
from typing import Any

CHECKED = {
    "type", "required", "additionalProperties", "properties", "patternProperties", "minProperties", "items", "minItems",
    "uniqueItems", "enum", "pattern", "minLength", "exclusiveMinimum", "maximum", "$ref",
}  # fmt: skip
SAID = {"$schema", "title", "description", "default", "definitions"}
TYPES = {"object": dict, "array": list, "string": str, "number": (int, float)}


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value is as a schema wants it."""
    assert set(schema) <= CHECKED | SAID, set(schema) - CHECKED - SAID
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/definitions/")
        return fits(value, root["definitions"][name], root)
    if "type" in schema and (not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool)):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    checks = {dict: _object, list: _array, str: _string, int: _number, float: _number}
    check = checks.get(type(value))
    return check is None or check(value, schema, root)


def _object(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if len(value) < schema.get("minProperties", 0) or set(schema.get("required", ())) - set(value):
        return False
    for name, member in value.items():
        found = [schema["properties"][name]] if name in schema.get("properties", {}) else []
        patterns = schema.get("patternProperties", {})
        found += [each for pattern, each in patterns.items() if re.search(pattern, str(name))]
        if not found and schema.get("additionalProperties") is False:
            return False
        if not all(fits(member, each, root) for each in found):
            return False
    return True


def _array(value: list[Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if len(value) < schema.get("minItems", 0):
        return False
    if schema.get("uniqueItems") and any(each in value[:place] for place, each in enumerate(value)):
        return False
    return all(fits(each, schema["items"], root) for each in value)


def _string(value: str, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    return len(value) >= schema.get("minLength", 0) and bool(re.search(schema.get("pattern", ""), value))


def _number(value: float, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    return schema.get("exclusiveMinimum", value - 1) < value <= schema.get("maximum", value)
