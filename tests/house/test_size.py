"""The caps of the house: lines of a file, lines of a function, parameters."""

import ast

from tests.house.tree import functions, parsed, place, source_files

FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
PARAMETERS_MAX = 5


def test_file_stays_small_when_it_is_source():
    """Every source file, the playground's included, has at most 300 lines."""
    sizes = {path: len(path.read_bytes().splitlines()) for path in source_files(".py", ".js", ".css", ".html")}
    long = [place(path, size) for path, size in sizes.items() if size > FILE_LINES_MAX]
    assert not long, "\n".join(long)


def test_function_stays_small_when_it_is_source():
    """Every function has at most 50 lines, from its `def` to its last line."""
    long = [
        f"{place(path, node.lineno)} {node.name}"
        for path in source_files()
        for node in functions(parsed(path))
        if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not long, "\n".join(long)


def test_function_takes_few_parameters_when_it_is_source():
    """Every function has at most five parameters besides `self` or `cls`; more would be a struct."""
    wide = [
        f"{place(path, node.lineno)} {node.name}"
        for path in source_files()
        for node in functions(parsed(path))
        if _parameter_count(node.args) > PARAMETERS_MAX
    ]
    assert not wide, "\n".join(wide)


def _parameter_count(arguments: ast.arguments) -> int:
    named = [*arguments.posonlyargs, *arguments.args]
    if named and named[0].arg in ("self", "cls"):
        named = named[1:]
    return len(named) + len(arguments.kwonlyargs) + bool(arguments.vararg) + bool(arguments.kwarg)
