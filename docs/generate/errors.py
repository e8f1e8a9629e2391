"""The errors that a client can meet, read from the classes themselves and from the places that raise them."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from docs.generate.table import MADE, code, table
from mana_llm.schema import errors
from mana_llm.schema.errors import GatewayError, ProviderError, RequestError

# What the constructors ask for, so that an error can be made and looked at.
_GIVEN: Final[Mapping[str, Any]] = MappingProxyType(
    {"message": "", "method": "GET", "allowed": "POST", "asked": "", "attempts": [], "status": 400}
)
_THEIRS: Final = "the provider's"
_OWN: Final = "see below"
_PAGE: Final = """\
# Errors

Every error is JSON in OpenAI's shape, all four members present:

```json
{"error": {"message": "...", "type": "...", "param": null, "code": "..."}}
```

`message` says what to do, `code` is for programs. After the content of a stream has begun, the status is out: the same
body comes as one event, and `[DONE]` after it.

"""
_CLASSES: Final = """\
"Walks on" says whether the next entry of the chain is asked; "health" what the provider's health learns: a failure,
nothing, or that it rests (parked). An error that walks on is seen by a client only where nothing else is left to ask:
the chain's end is then `NoHealthyProviderError`, whose `error.attempts` has the reasons, except that a model asked for
directly answers with its own 429.

Sent again at once, a request would end the same after {in_vain}:
`x-should-retry: false` says so to OpenAI's libraries. Where places were merely taken, it is left out.

"""
_REQUESTS: Final = """
## What a RequestError says

The client's own mistakes, by their codes; the message names the place and what would be right.

"""


def errors_page(source: Path) -> str:
    """`docs/errors.md`, from the package in the folder `source`."""
    found = [each for each in vars(errors).values() if _is_error(each)]
    head = ("class", "status", "type", "code", "walks on", "health", "meaning")
    classes = table(head, [_row(each) for each in found])
    about = _CLASSES.format(in_vain=", ".join(code(each.__name__) for each in found if _made(each).in_vain))
    requests = table(("code", "status", "raised in"), _requests(source))
    return MADE.format(source="src/mana_llm") + _PAGE + about + classes + _REQUESTS + requests


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, GatewayError) and value is not GatewayError


def _row(kind: type[GatewayError]) -> tuple[str, ...]:
    asked = inspect.signature(kind).parameters
    # `status` without a default is handed through from the provider; with one, whoever raises it chooses.
    handed = _THEIRS if "status" in asked and asked["status"].default is inspect.Parameter.empty else _OWN
    made = _made(kind)
    status = handed if "status" in asked else str(made.status)
    word = handed if "code" in asked else code(made.code)
    return (code(kind.__name__), status, code(made.type), word, *_walk(made), (kind.__doc__ or "").partition("\n")[0])


def _made(kind: type[GatewayError]) -> GatewayError:
    asked = inspect.signature(kind).parameters
    return kind(**{name: _GIVEN[name] for name, each in asked.items() if each.default is inspect.Parameter.empty})


def _walk(made: GatewayError) -> tuple[str, str]:
    if not isinstance(made, ProviderError):
        return "-", "-"
    return "yes" if made.walks_on else "no", made.health


def _requests(source: Path) -> list[tuple[str, ...]]:
    """A row for every code and status, with the files that raise it."""
    places: dict[tuple[str, str], set[str]] = {}
    for path in sorted(source.rglob("*.py")):
        for call in _raised(ast.parse(path.read_text(encoding="utf-8"))):
            given = {each.arg: each.value for each in call.keywords}
            key = (_constant(given, "code", None), _constant(given, "status", RequestError.status))
            places.setdefault(key, set()).add(path.relative_to(source).as_posix())
    return [(*key, ", ".join(_link(file) for file in sorted(files))) for key, files in sorted(places.items())]


def _raised(module: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == RequestError.__name__:
            yield node


def _constant(given: dict[str | None, ast.expr], name: str, default: Any) -> str:
    value = given.get(name)
    if value is None:
        return code(default)
    return code(value.value) if isinstance(value, ast.Constant) else "varies"


def _link(file: str) -> str:
    return f"[{file}](../src/mana_llm/{file})"
