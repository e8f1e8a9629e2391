"""Writes JSON Schemas so that Ollama keeps all of them that it can.

Ollama parses the parameters of a tool into a struct of its own that knows `type`, `items`, `required`,
`properties`, `enum`, `description` and `anyOf`; the rest is dropped without a word.
Source: docs/sources.md (Ollama). So the
target of a `$ref` is written in its place, `oneOf` as `anyOf`, `const` as an `enum` of one, and the schemas of an
`allOf` as one schema. A schema with none of these four is sent as it came.

The schema of an answer becomes a grammar, which knows all of these but `const`.
"""

from typing import Any, Final
from urllib.parse import unquote

import msgspec

from mana_llm.providers.failures.fields import cannot
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import JSONDecodeError, decode_json

NODES_MAX: Final = 10_000
"""Schemas that one may grow to: targets that name targets that name targets double each time."""

_CONST: Final = b'"const"'
_DROPPED: Final = (b'"$ref"', b'"oneOf"', b'"allOf"', _CONST)
_DEFINITIONS: Final = ("$defs", "definitions")
# Their members are schemas under names that are the client's own.
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", *_DEFINITIONS})
# Their values are not schemas.
_VALUES: Final = frozenset({"enum", "const", "default", "examples", "required"})


def inlined(raw: msgspec.Raw, place: str) -> msgspec.Raw | dict[str, Any]:
    """The schema of a tool as Ollama keeps most of it.

    Raises:
        RequestError: if it is no object, or a `$ref` leads nowhere.
        ProviderCapabilityError: if a schema contains itself, or grows beyond all measure.
    """
    root = _read(raw, place)
    if not any(word in bytes(raw) for word in _DROPPED):
        return raw
    try:
        written: dict[str, Any] = _Inliner(root, place).schema(root, ())
    except RecursionError as error:
        raise cannot(place, "tools whose schema is so deep") from error
    return written


def enumerated(raw: msgspec.Raw, place: str) -> msgspec.Raw | dict[str, Any]:
    """The schema of an answer, its constants as choices of one; references stay. Raises as `inlined`."""
    root = _read(raw, place)
    if _CONST not in bytes(raw):
        return raw
    try:
        written: dict[str, Any] = _with_choices(root)
    except RecursionError as error:
        raise cannot(place, "answers whose schema is so deep") from error
    return written


def _read(raw: msgspec.Raw, place: str) -> dict[str, Any]:
    try:
        root: dict[str, Any] = decode_json(raw, dict[str, Any])
    except JSONDecodeError as error:
        raise RequestError(f"'{place}' is no JSON Schema: {error}.", param=place) from error
    return root


def _with_choices(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_choices(each) for each in node]
    if not isinstance(node, dict):
        return node
    written = {}
    for name, value in _chosen(node).items():
        if name in _NAMED and isinstance(value, dict):
            written[name] = {called: _with_choices(each) for called, each in value.items()}
        else:
            written[name] = value if name in _VALUES else _with_choices(value)
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
        every, ref = node.get("allOf"), node.get("$ref")
        if isinstance(every, list):
            return self._joined(node, every, within)
        if isinstance(ref, str):
            return self._referred(node, ref, within)
        return self._members(_plainer(node), within)

    def _members(self, node: dict[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
        kept = {name: value for name, value in node.items() if name not in _DEFINITIONS}
        return {name: self._member(name, value, within) for name, value in kept.items()}

    def _member(self, name: str, value: Any, within: tuple[str, ...]) -> Any:
        if name in _VALUES:
            return value
        if name in _NAMED and isinstance(value, dict):
            return {called: self.schema(each, within) for called, each in value.items()}
        return self.schema(value, within)

    def _joined(self, node: dict[str, Any], every: list[Any], within: tuple[str, ...]) -> dict[str, Any]:
        joined: dict[str, Any] = {}
        for each in (*every, _without(node, "allOf")):
            written = self.schema(each, within)
            # `true` and `false` are schemas too; they have no members.
            if isinstance(written, dict):
                joined = _merged(joined, written)
        return joined

    def _referred(self, node: dict[str, Any], ref: str, within: tuple[str, ...]) -> Any:
        if ref in within:
            raise cannot(self._place, "tools whose schema contains itself")
        target = self.schema(self._target(ref), (*within, ref))
        if not isinstance(target, dict):
            return target
        return _merged(target, self._members(_plainer(_without(node, "$ref")), within))

    def _target(self, ref: str) -> Any:
        """What a pointer into the schema points to. Source: RFC 6901."""
        start, *steps = ref.split("/")
        target: Any = self._root if start == "#" else None
        for step in steps:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(target, list):
                target = target[int(name)] if name.isdecimal() and int(name) < len(target) else None
            else:
                target = target.get(name) if isinstance(target, dict) else None
        if target is None:
            raise RequestError(f"'{self._place}' has a '$ref' that leads nowhere within it.", param=self._place)
        return target


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both schemas as one that asks for what each does; of what cannot be joined, `over` has its way."""
    merged = {**base, **over}
    for name in base.keys() & over.keys():
        one, other = base[name], over[name]
        if name == "properties" and isinstance(one, dict) and isinstance(other, dict):
            both = {called: _merged_property(one[called], other[called]) for called in one if called in other}
            merged[name] = {**one, **other, **both}
        elif name == "required" and isinstance(one, list) and isinstance(other, list):
            merged[name] = [*one, *(each for each in other if each not in one)]
        elif name == "enum" and isinstance(one, list) and isinstance(other, list):
            merged[name] = [each for each in one if each in other]
    return merged


def _merged_property(one: Any, other: Any) -> Any:
    return _merged(one, other) if isinstance(one, dict) and isinstance(other, dict) else other


def _plainer(node: dict[str, Any]) -> dict[str, Any]:
    """The same in the words that are kept."""
    node = _chosen(node)
    if "oneOf" in node and "anyOf" not in node:
        return {"anyOf" if name == "oneOf" else name: value for name, value in node.items()}
    return node


def _chosen(node: dict[str, Any]) -> dict[str, Any]:
    """The same with a constant as the one value there is to choose."""
    if "const" not in node:
        return node
    kept = _without(node, "enum")
    return {"enum" if name == "const" else name: [value] if name == "const" else value for name, value in kept.items()}


def _without(node: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in node.items() if each != name}
