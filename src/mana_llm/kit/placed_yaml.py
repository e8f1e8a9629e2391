"""YAML that knows its places: what is wrong with a file is told with its line, its key, and the nearest right key."""

import difflib
import re
from collections.abc import Collection
from itertools import islice
from typing import Any, Final

import yaml

Members = dict[str, tuple[yaml.Node, yaml.Node]]
"""A mapping's members by name: the node of the key, and the value's."""

# Six times as quick where PyYAML was built with libyaml: 10,000 aliases in 0.5 s instead of 2.9 s.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEPTH_MAX: Final = 16
"""No file of ours is nested deeper than five levels. Beyond some thousand, libyaml's loader would end the process."""
_SHOWN_MAX: Final = 64
_KNOWN_MAX: Final = 24
_STRING: Final = "tag:yaml.org,2002:str"
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


class YamlError(ValueError):
    """A file cannot be used; the message names line and key and what would be right."""


def composed(text: str) -> yaml.Node | None:
    """The file's root, None if it is empty. Raises YamlError if it is not YAML, or nested beyond any use."""
    try:
        _measure(text)
        root: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise YamlError(f"line {_line(error, text)}: not YAML: {_reason(error)}") from error
    return root


def _measure(text: str) -> None:
    """Look at the depth, event by event, before anything recurses into it."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH_MAX:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise YamlError(f"line {line}: nested deeper than {_DEPTH_MAX} levels.")


def _line(error: yaml.YAMLError, text: str) -> int:
    mark = getattr(error, "problem_mark", None)
    if mark:
        return int(mark.line) + 1
    # A character that YAML forbids has an offset and no mark.
    return text.count("\n", 0, getattr(error, "position", 0)) + 1


def _reason(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)


def members_of(node: yaml.Node | None, where: str, known: Collection[str] | None = None) -> Members:
    """A mapping's members; a name that is unknown or stands twice is refused.

    Raises:
        YamlError: for these, or if `node` is no mapping.
    """
    if not isinstance(node, yaml.MappingNode):
        raise problem(node, f"{where}: a mapping is needed.")
    members: Members = {}
    for key, value in node.value:
        name = text_of(key, where)
        if known and name not in known:
            raise problem(key, f"{where}: {shown(name)} is not a key here. {near(name, known)}")
        if name in members:
            raise problem(key, f"{where}: {shown(name)} stands there twice.")
        members[name] = (key, value)
    return members


def entries_of(node: yaml.Node, message: str) -> list[yaml.Node]:
    """A list's entries, at least one; `message` says what is needed. Raises YamlError if there are none."""
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise problem(node, message)
    return list(node.value)


def text_of(node: yaml.Node | None, where: str) -> str:
    """A text that is not empty. Raises YamlError if `node` is none."""
    if not isinstance(node, yaml.ScalarNode) or not node.value:
        raise problem(node, f"{where}: a text is needed.")
    return str(node.value)


def string_of(node: yaml.Node, where: str) -> str:
    """A text that YAML takes for nothing else, such as a number. Raises YamlError if `node` is none."""
    text = text_of(node, where)
    if node.tag != _STRING:
        raise problem(node, f"{where}: {shown(text)} is no text to YAML; put it into quotes.")
    return text


def choice_of(node: yaml.Node, where: str, choices: Collection[str]) -> str:
    """One of `choices`. Raises YamlError, naming the nearest, if it is none of them."""
    text = text_of(node, where)
    if text not in choices:
        raise problem(node, f"{where}: {shown(text)} is not known here. {near(text, choices)}")
    return text


def number_of(node: yaml.Node, where: str, most: float) -> float:
    """A number above 0, at most `most`. Raises YamlError if `node` is none."""
    text = node.value if isinstance(node, yaml.ScalarNode) and not node.style else ""
    number = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not 0 < number <= most:
        said = shown(str(node.value)) if isinstance(node, yaml.ScalarNode) else "this"
        raise problem(
            node, f"{where}: {said} will not do; write a number above 0 and up to {most:g}, such as 5 or 0.5."
        )
    return number


def problem(node: yaml.Node | None, message: str) -> YamlError:
    """The error for `node`, with its line."""
    line = node.start_mark.line + 1 if node is not None else 1
    return YamlError(f"line {line}: {message}")


def shown(text: str) -> str:
    """A text of the file in quotes, cut where it is too long for a message."""
    return repr(text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}...")


def near(name: str, known: Collection[str]) -> str:
    """A hint at the nearest of the known names, or at all of them."""
    found = difflib.get_close_matches(name[:_SHOWN_MAX], list(known), n=1, cutoff=0.5)
    if found:
        return f"Did you mean {found[0]}?"
    more = ", ..." if len(known) > _KNOWN_MAX else ""
    return f"Known: {', '.join(islice(known, _KNOWN_MAX))}{more}."
