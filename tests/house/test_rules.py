"""Rules of the house that a syntax tree can judge: state, imports, docstrings, names of providers."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.tree import SRC, files_of_tests, functions, parsed, place, source_files

UNPICKLERS = {
    "pickle",
    "cPickle",
    "_pickle",
    "shelve",
    "marshal",
    "dill",
    "cloudpickle",
    "joblib",
    "diskcache",
}
MUTABLE_CALLS = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter"}
MUTATORS = {"append", "extend", "insert", "update", "add", "setdefault", "pop", "popitem", "remove", "clear"}
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*|__\w+__")
# "openai" is also a dialect and a client library; it means the provider when it stands alone or leads a name.
PROVIDER = re.compile(
    r"(?<![a-z])(?:ollama|openrouter|groq|together|google|gemini|mistral|deepseek|xai|fireworks|cerebras|perplexity"
    r"|nvidia|sambanova|deepinfra|hyperbolic|moonshot|huggingface)(?![a-z])|^openai(?:$|/|_(?:api|base|url))"
)
# Where a provider's name belongs: its file or row, the settings, the simulator and what starts the simulator.
PROVIDER_HOMES = (
    "providers/",
    "settings/",
    "simulator/",
    "dialects/openai",
    "cli/demo.py",
    "cli/simulate.py",
)


def test_module_keeps_no_state_when_it_is_source():
    """No module holds a mutable that changes: tables are constants by name and never written to."""
    found = [place(path, line) for path in source_files() for line in (*_loose_mutables(path), *_constant_writes(path))]
    assert not found, "\n".join(found)


def test_function_rebinds_no_global_when_it_is_source():
    """No function rebinds a module's name."""
    found = [
        place(path, node.lineno)
        for path in source_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Global)
    ]
    assert not found, "\n".join(found)


def test_source_imports_no_unpickler_when_any_module_is_read():
    """Nothing that can run code from stored bytes is imported anywhere (R44)."""
    found = [
        f"{place(path, line)} {name}"
        for path in source_files()
        for line, name in _imports(path)
        if name.partition(".")[0] in UNPICKLERS
    ]
    assert not found, "\n".join(found)


def test_provider_name_stays_home_when_source_is_searched():
    """A provider's name occurs in its file or row, in the settings and in the simulator, nowhere else."""
    found = [
        f"{place(path, line)} {text[:60]!r}"
        for path in source_files()
        if not str(path.relative_to(SRC)).startswith(PROVIDER_HOMES)
        for line, text in _words(path)
        if PROVIDER.search(text)
    ]
    assert not found, "\n".join(found)


def test_package_is_complete_when_a_folder_holds_modules():
    """Every folder with modules has an `__init__.py`, without which import-linter would not look into it."""
    folders = {path.parent for path in source_files()}
    found = [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]
    assert not found, "\n".join(found)


def test_test_has_a_docstring_when_it_is_collected():
    """Every test says in one sentence what it promises."""
    found = [
        f"{place(path, node.lineno)} {node.name}"
        for path in files_of_tests()
        for node in functions(parsed(path))
        if node.name.startswith("test_") and not (ast.get_docstring(node) or "").rstrip().endswith((".", "?"))
    ]
    assert not found, "\n".join(found)


def test_test_waits_for_events_when_it_needs_time():
    """No test sleeps: it polls with a deadline or turns a clock of its own."""
    found = [
        place(path, node.lineno)
        for path in files_of_tests()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "loose"),
    [
        ("cache = {}", True),
        ("seen: set[str] = set()", True),
        ("table: Mapping[str, int] = {}", False),
        ("_TABLE = {'a': 1}", False),
        ("__all__ = ['a']", False),
        ("names = frozenset({'a'})", False),
    ],
)
def test_module_state_is_recognised_when_it_is_spelt_so(tmp_path, code, loose):
    """The judge of module state tells a table from a cache."""
    file = tmp_path / "module.py"
    file.write_text(code)
    assert bool(list(_loose_mutables(file))) is loose


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("if name == 'ollama': pass", True),
        ("class GeminiThing: pass", True),
        ("def call_groq(): pass", True),
        ("model = 'openai/gpt-5'", True),
        ("from mana_llm.dialects.openai import Dialect", False),
        ('"""A docstring may say ollama."""', False),
        ("x = 1  # so may a comment: openai", False),
        ("programme = 'togetherness'", False),
    ],
)
def test_provider_name_is_recognised_when_it_is_spelt_so(tmp_path, code, named):
    """The judge of names reads identifiers and strings, and leaves docstrings and comments alone."""
    file = tmp_path / "module.py"
    file.write_text(code)
    assert any(PROVIDER.search(text) for _, text in _words(file)) is named


def _loose_mutables(path: Path) -> Iterator[int]:
    """Lines that bind a mutable to a module's name which is neither a constant's nor typed read-only."""
    for node in parsed(path).body:
        if isinstance(node, ast.Assign):
            targets, kind = node.targets, ""
        elif isinstance(node, ast.AnnAssign):
            targets, kind = [node.target], ast.unparse(node.annotation)
        else:
            continue
        if kind.startswith(("Final", "Mapping", "Sequence", "Collection")) or not _is_mutable(node.value):
            continue
        if not all(isinstance(target, ast.Name) and CONSTANT.fullmatch(target.id) for target in targets):
            yield node.lineno


def _is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in MUTABLE_CALLS
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def _constant_writes(path: Path) -> Iterator[int]:
    """Lines inside functions that change a constant in place: `TABLE[key] = ...`, `TABLE.update(...)`."""
    for function in functions(parsed(path)):
        for node in ast.walk(function):
            if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                owner = node.value
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
                owner = node.func.value
            else:
                continue
            if isinstance(owner, ast.Name) and re.fullmatch(r"_?[A-Z][A-Z0-9_]*", owner.id):
                yield node.lineno


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def _words(path: Path) -> Iterator[tuple[int, str]]:
    """Identifiers and strings of a module with their lines, lower case; docstrings and comments left out."""
    module = parsed(path)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        if id(node) in docstrings:
            continue
        line = getattr(node, "lineno", 1)
        for field in ("id", "attr", "arg", "name", "asname", "value", "module"):
            text = getattr(node, field, None)
            if isinstance(text, bytes):
                text = text.decode("latin-1")
            if isinstance(text, str):
                yield line, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower()
