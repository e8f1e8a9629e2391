"""Writes a tool's JSON Schema so that Ollama keeps all of it that it can.

Ollama parses the parameters of a tool into a struct of its own that knows `type`, `items`, `required`,
`properties`, `enum`, `description` and `anyOf`; the rest is dropped without a word.
Source: docs/sources.md (Ollama). So the
target of a `$ref` is written in its place, `oneOf` as `anyOf`, and an `allOf` of one schema as that schema. A
schema with none of these three is sent as it came.
"""

from typing import Any, Final
from urllib.parse import unquote

import msgspec

from mana_llm.providers.failures.fields import cannot
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import JSONDecodeError, decode_json

NODES_MAX: Final = 10_000
"""Schemas that one may grow to: targets that name targets that name targets double each time."""

_DROPPED: Final = (b'"$ref"', b'"oneOf"', b'"allOf"')
_DEFINITIONS: Final = ("$defs", "definitions")
# Their members are schemas under names that are the client's own.
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
# Their values are not schemas.
_VALUES: Final = frozenset({"enum", "const", "default", "examples", "required"})


def inlined(raw: msgspec.Raw, place: str) -> msgspec.Raw | dict[str, Any]:
    """The schema as Ollama keeps most of it.

    Raises:
        RequestError: if it is no object, or a `$ref` leads nowhere.
        ProviderCapabilityError: if a schema contains itself, or grows beyond all measure.
    """
    try:
        root = decode_json(raw, dict[str, Any])
    except JSONDecodeError as error:
        raise RequestError(f"'{place}' is no JSON Schema: {error}.", param=place) from error
    if not any(word in bytes(raw) for word in _DROPPED):
        return raw
    try:
        written: dict[str, Any] = _Inliner(root, place).schema(root, ())
    except RecursionError as error:
        raise cannot(place, "tools whose schema is so deep") from error
    return written


class _Inliner:
    """Writes one schema anew; what it was made from is not changed."""

    def __init__(self, root: dict[str, Any], place: str) -> None:
        self._root = root
        self._place = place
        self._nodes = 0

    def schema(self, node: Any, within: tuple[str, ...]) -> Any:
        """A schema, or a list of them, without references; `within` are those that led here."""
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise cannot(self._place, "tools whose schema is so large")
        if isinstance(node, list):
            return [self.schema(each, within) for each in node]
        if not isinstance(node, dict):
            return node
        node = _plainer(node)
        ref = node.get("$ref")
        return self._referred(node, ref, within) if isinstance(ref, str) else self._members(node, within)

    def _members(self, node: dict[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
        kept = {name: value for name, value in node.items() if name not in _DEFINITIONS}
        return {name: self._member(name, value, within) for name, value in kept.items()}

    def _member(self, name: str, value: Any, within: tuple[str, ...]) -> Any:
        if name in _VALUES:
            return value
        if name in _NAMED and isinstance(value, dict):
            return {called: self.schema(each, within) for called, each in value.items()}
        return self.schema(value, within)

    def _referred(self, node: dict[str, Any], ref: str, within: tuple[str, ...]) -> Any:
        if ref in within:
            raise cannot(self._place, "tools whose schema contains itself")
        target = self.schema(self._target(ref), (*within, ref))
        beside = {name: value for name, value in node.items() if name != "$ref"}
        return {**target, **self._members(beside, within)} if isinstance(target, dict) else target

    def _target(self, ref: str) -> Any:
        """What a pointer into the schema points to. Source: RFC 6901."""
        target: Any = self._root if ref.startswith("#") else None
        for step in ref.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
        if target is None:
            raise RequestError(f"'{self._place}' has a '$ref' that leads nowhere within it.", param=self._place)
        return target


def _plainer(node: dict[str, Any]) -> dict[str, Any]:
    """The same in the words that are kept."""
    every = node.get("allOf")
    if isinstance(every, list) and len(every) == 1 and isinstance(every[0], dict):
        rest = {name: value for name, value in node.items() if name != "allOf"}
        return _plainer({**every[0], **rest})
    if "oneOf" in node and "anyOf" not in node:
        return {"anyOf" if name == "oneOf" else name: value for name, value in node.items()}
    return node
