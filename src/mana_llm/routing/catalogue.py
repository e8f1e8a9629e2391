"""What is published of models, by provider and name; and which of those that are named here end soon.

A name that the catalogue has not is looked up as its nearest relative, and what a relative does not share is left
out: a snapshot (`-2026-03-05`, `-0731`, `-001`) has a shutdown date of its own, a variant (`:free`) a price of its
own. A tuned model (`ft:<base>:<owner>...`) is listed under its base.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from functools import cached_property
from typing import Final

import msgspec

from mana_llm.schema.models import Facts, FactsFile
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import decode_json

WARNED: Final = timedelta(days=60)
"""How long before its shutdown a model is warned about."""
_SNAPSHOT: Final = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|20\d{6}|\d{3,4})$")
_TUNED: Final = "ft"


class Catalogue:
    """Facts about models. `read` gives the file's bytes; it is called at the first question, once."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read

    @cached_property
    def _file(self) -> FactsFile:
        file: FactsFile = decode_json(self._read(), FactsFile)
        return file

    @property
    def date(self) -> date:
        """The day that the numbers were read."""
        return self._file.date

    def facts(self, provider: str, model: str) -> Facts | None:
        """What is known of a provider's model; None if nothing is."""
        known = self._file.models.get(provider)
        if known is None:
            return None
        return known.get(model) or _of_relative(known, model)

    def lack(self, target: Target, needs: Iterable[str]) -> str | None:
        """The first of `needs` that the model is not known to do; None if there is none, or nothing is known of it."""
        facts = self.facts(target.provider, target.model)
        if facts is None or not facts.can:
            return None
        return next((need for need in needs if need not in facts.can), None)


def _of_relative(known: Mapping[str, Facts], model: str) -> Facts | None:
    bare, variant, rest = model.partition(":")
    if bare == _TUNED:
        return known.get(f"{bare}:{rest.partition(':')[0]}")
    facts = known.get(bare)
    if facts is None:
        facts = known.get(_SNAPSHOT.sub("", bare))
        facts = facts and msgspec.structs.replace(facts, shutdown=None)
    if facts and variant:
        return msgspec.structs.replace(
            facts, input_usd_per_mtok=None, cached_usd_per_mtok=None, output_usd_per_mtok=None
        )
    return facts


class Ending(msgspec.Struct, frozen=True):
    """A model that is gone or goes soon, and the alias or default (`named_by`) that names it."""

    named_by: str
    target: Target
    shutdown: date
    today: date

    @property
    def when(self) -> str:
        """The model and the day, in words."""
        days = (self.shutdown - self.today).days
        if days < 0:
            return f"{self.target.label} was shut down on {self.shutdown}"
        return f"{self.target.label} shuts down on {self.shutdown}, " + (f"in {days} days" if days else "today")

    def __str__(self) -> str:
        return f"{self.named_by}: {self.when}"


def endings(named: Iterable[tuple[str, Target]], catalogue: Catalogue, today: date) -> list[Ending]:
    """Those of the targets that are gone or whose shutdown is at most WARNED away; each with what names it."""
    found = []
    for named_by, target in named:
        facts = catalogue.facts(target.provider, target.model)
        if facts and facts.shutdown and facts.shutdown - today <= WARNED:
            found.append(Ending(named_by, target, facts.shutdown, today))
    return found
