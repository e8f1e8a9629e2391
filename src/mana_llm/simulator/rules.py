"""Which script a request gets: the rules set at run time, newest first, then the model's own name."""

from __future__ import annotations

from typing import Any

import msgspec

from mana_llm.simulator.names import script_in
from mana_llm.simulator.script import Script


class Rule(msgspec.Struct, kw_only=True):
    """A script for all requests, or only for a model, or for paths that contain a piece of text.

    `times` is how many requests are left, None for no limit.
    """

    script: Script
    model: str | None = None
    path: str | None = None
    times: int | None = None

    def fits(self, model: str, path: str) -> bool:
        """Whether the rule is for this request."""
        return self.model in (None, model) and (self.path is None or self.path in path)


class Rules:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Put a rule in force before all others."""
        self._rules.insert(0, rule)

    def clear(self) -> None:
        """Forget every rule."""
        self._rules.clear()

    def script_for(self, model: str, path: str) -> Script:
        """The script of a request, which uses up one of its rule's times. Raises: BadNameError."""
        for rule in self._rules:
            if rule.fits(model, path):
                return self._use(rule)
        return script_in(model) or Script()

    def refuses(self) -> bool:
        """Whether connections are refused at once: a rule for everything says `refuse`."""
        rule = next((one for one in self._rules if one.model is None and one.path is None), None)
        if rule is None or rule.script.fails("refuse") is None:
            return False
        self._use(rule)
        return True

    def listed(self) -> list[Any]:
        """The rules as JSON, newest first."""
        return [msgspec.to_builtins(rule) for rule in self._rules]

    def _use(self, rule: Rule) -> Script:
        if rule.times is not None:
            rule.times -= 1
            if rule.times <= 0:
                self._rules.remove(rule)
        return rule.script
