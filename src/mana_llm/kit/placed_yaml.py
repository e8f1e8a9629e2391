"""YAML that knows its places: what is wrong with a file is told with its line, its key, and the nearest right key."""

import difflib
from collections.abc import Iterable

import yaml

Members = dict[str, tuple[yaml.Node, yaml.Node]]
"""A mapping's members by name: the node of the key, and the value's."""


class YamlError(ValueError):
    """A file cannot be used; the message names line and key and what would be right."""


def composed(text: str) -> yaml.Node | None:
    """The file's root, None if it is empty. Raises YamlError if it is not YAML."""
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"{where}not YAML: {getattr(error, 'problem', error)}") from error
    return root


def members_of(node: yaml.Node | None, where: str, known: tuple[str, ...] | None = None) -> Members:
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
            raise problem(key, f"{where}: {name!r} is not a key here. {near(name, known)}")
        if name in members:
            raise problem(key, f"{where}: {name!r} stands there twice.")
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


def problem(node: yaml.Node | None, message: str) -> YamlError:
    """The error for `node`, with its line."""
    line = node.start_mark.line + 1 if node is not None else 1
    return YamlError(f"line {line}: {message}")


def near(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest of the known names, or at all of them."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {found[0]}?" if found else f"Known: {', '.join(known)}."
