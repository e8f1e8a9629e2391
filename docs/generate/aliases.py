"""The aliases file in other words: its JSON Schema, and the table of its keys; both from the code's own table."""

import json
import re
from typing import Any, Final

from docs.generate.table import code, table
from mana_llm.routing.alias_file import ALIAS_NAME, ENTRY, FILE_KEYS, KEYS, SECONDS_MAX, Key

_BLOCK: Final = re.compile(r"(<!-- keys -->\n).*?(<!-- /keys -->)", re.DOTALL)
_KINDS: Final = {
    "text": "text",
    "entries": "list of provider/model",
    "seconds": "seconds, more than 0",
    "choice": "one of ",
    "choices": "list of ",
}


def aliases_schema() -> str:
    """`aliases.schema.json`, for the language servers of editors.

    It cannot say what depends on the installation or on two places of the file: which providers there are, whether
    the default is an alias of the file, what a chain of embeddings may hold. `mana-llm check` can.
    """
    aliases = {
        "type": "object",
        "description": "What applications may ask for instead of a model, by its whole name.",
        "minProperties": 1,
        "patternProperties": {ALIAS_NAME: {"$ref": "#/definitions/alias"}},
        "additionalProperties": False,
    }
    default = {
        "type": "string",
        "description": "The alias of a request that names no model; it is of kind chat.",
        "pattern": ALIAS_NAME,
    }
    alias = {
        "type": "object",
        "required": ["chain"],
        "additionalProperties": False,
        "properties": {name: _value(key) for name, key in KEYS.items()},
    }
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "mana-llm aliases",
        "type": "object",
        "required": list(FILE_KEYS),
        "additionalProperties": False,
        "properties": dict(zip(FILE_KEYS, (aliases, default), strict=True)),
        "definitions": {"alias": alias},
    }
    return json.dumps(schema, indent=2) + "\n"


def with_keys(text: str) -> str:
    """The text with the table of keys between its marks.

    Raises:
        ValueError: if the marks are not there exactly once.
    """
    rows = [(code(name), _kind(key), _default(key), key.help) for name, key in KEYS.items()]
    block = table(("key", "value", "left out", "what it does"), rows)
    changed, count = _BLOCK.subn(lambda found: found[1] + block + found[2], text)
    if count != 1:
        raise ValueError("docs/aliases.md needs one block between <!-- keys --> and <!-- /keys -->.")
    return changed


def _value(key: Key) -> dict[str, Any]:
    said = key.help.replace("`", "")
    described: dict[str, Any] = {"description": f"{said} Left out: {key.default}." if key.default != "needed" else said}
    if key.form == "text":
        return described | {"type": "string", "minLength": 1}
    if key.form == "seconds":
        return described | {"type": "number", "exclusiveMinimum": 0, "maximum": SECONDS_MAX}
    if key.form == "choice":
        return described | {"enum": list(key.choices), "default": key.default}
    items = {"type": "string", "pattern": ENTRY} if key.form == "entries" else {"enum": list(key.choices)}
    return described | {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}


def _kind(key: Key) -> str:
    return _KINDS[key.form] + ", ".join(code(choice) for choice in key.choices)


def _default(key: Key) -> str:
    return code(key.default) if key.choices[:1] == (key.default,) or key.default.isupper() else key.default
