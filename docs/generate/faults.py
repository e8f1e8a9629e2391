"""The fault matrix: fault, moment, plain or streamed, and what the client sees; from the tables that the tests run."""

from collections.abc import Callable, Hashable, Iterable
from typing import Final, TypeVar

from docs.generate.table import MADE, code, table
from tests.routing.test_walk_ends import CLIENT, ENDINGS, Ending
from tests.routing.test_walk_rows import AFTER, SKIPS, After
from tests.routing.walk_cases import CASES, Case

Row = TypeVar("Row", Case, After)
PASSED_ON: Final = "ProviderRequestError"
_PAGE: Final = """\
# Faults

What a client sees when something goes wrong, by the moment at which it does. Each name stands for a case that a test
plays to the running gateway over sockets: [before content](../tests/routing/walk_cases.py), [after it, and entries that
are skipped](../tests/routing/test_walk_rows.py), [other ends](../tests/routing/test_walk_ends.py). What each
reason means: [errors](errors.md); what a provider's health makes of it: [behaviour](behaviour.md#health); at which
scale the heavier faults are tried: [reliability](reliability.md). A limit that a name speaks of is one that an operator
or an alias has set; the others are the [defaults](behaviour.md#limits).

## Before any content

Nothing has been shown to the client: the status is still open, of a stream too. "The next entry answers" means a 200
from the first entry of the chain that can; if there is none, an alias ends in `503 no_healthy_provider` with the
reason in `error.attempts`, and a model that was asked for directly in what the table says. Where the walk ends, alias
and direct model end alike. After a [soft commit](behaviour.md#the-walk) the same holds, except that an end is an error
event and `[DONE]` instead of a status.

"""
_AFTER: Final = """
## After content

Of streams only: of a plain answer nothing is shown before it is whole, so that the rows above hold for it until then.
Nobody else is asked, nothing is invented, and what was shown stays.

"""
_SKIPS: Final = """
## Entries that are not asked

Plain and streamed alike: the next entry answers, and if there is none the word stands in `error.attempts`. A request
that waits for a place until its time is over ends in a 504, whose `error.attempts` say `deadline` of every entry that
was not reached.

"""
_ENDINGS: Final = """
## Other ends

Of plain and streamed requests while the status is open, and of streams after it has left. No other entry is asked, the
call upstream is cut, and no provider's health learns of it; only one that was silent until the walk's time was over,
and had at least as much of it as connecting may take, has failed. The first two have `error.attempts`.

"""
_HEALTH: Final = (("failure", "one failure"), ("none", "nothing"), ("parked", "rests 10 minutes"))


def faults_page() -> str:
    """`docs/faults.md`."""
    page = MADE.format(source="the tables of the tests in tests/routing") + _PAGE
    head = ("faults", "request", "what happens", "if there is nobody else (direct model)", "reason", "health")
    page += table(head, (_before(cases) for cases in _alike(CASES, _kind)))
    page += _AFTER + table(
        ("faults", "what the client sees", "health"), (_after(found) for found in _alike(AFTER, _end))
    )
    rows = [(code(skip.reason), skip.what[0].upper() + skip.what[1:]) for skip in SKIPS]
    page += _SKIPS + table(("reason", "why"), rows)
    head = ("what happens", "before the status has left", "after it has")
    return page + _ENDINGS + table(head, map(_ending, ENDINGS))


def _alike(rows: Iterable[Row], kind: Callable[[Row], Hashable]) -> list[list[Row]]:
    """Rows of one kind together, in the order of the first of each."""
    found: dict[Hashable, list[Row]] = {}
    for row in rows:
        found.setdefault(kind(row), []).append(row)
    return list(found.values())


def _kind(case: Case) -> Hashable:
    direct = None if case.reason == PASSED_ON else case.direct
    return case.walks, case.reason, direct, _health(case.health), case.streams


def _before(cases: list[Case]) -> tuple[str, ...]:
    case = cases[0]
    request = "plain and streamed" if len(case.streams) > 1 else "streamed" if case.streams[0] else "plain"
    happens = "the next entry answers" if case.walks else "the walk ends"
    status, word = case.direct
    seen = "the provider's status, code and message" if case.reason == PASSED_ON else f"{status} {code(word)}"
    return _names(cases), request, happens, seen, code(case.reason), _health(case.health)


def _end(case: After) -> Hashable:
    return case.error, case.finish, bool(case.settings.get("total_s"))


def _after(cases: list[After]) -> tuple[str, ...]:
    case = cases[0]
    if not case.error:
        finish = f"the finish {code(case.finish)}" if case.finish else "no finish"
        return _names(cases), f"{finish}, `[DONE]`", "nothing"
    harmless = "total_s" in case.settings
    return (
        _names(cases),
        f"an error event of type {code(case.error)}, `[DONE]`",
        "nothing" if harmless else "one failure",
    )


def _ending(ending: Ending) -> tuple[str, ...]:
    if ending is CLIENT:
        return ending.name, "nothing; it is counted as 499", "nothing; it is counted as 499"
    return ending.name, f"{ending.status} {code(ending.code)}", f"an error event with {code(ending.code)}, `[DONE]`"


def _names(cases: Iterable[Case | After]) -> str:
    return "; ".join(dict.fromkeys(case.name for case in cases))


def _health(learnt: object) -> str:
    return dict(_HEALTH).get(str(learnt), "rests as long as it was told")
