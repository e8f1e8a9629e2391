"""What every dialect's player can do; routes find one by path, the server asks it for the reply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from mana_llm.simulator.reply import Frame, Reply
from mana_llm.simulator.script import Fault, Json, Script


class Moment(msgspec.Struct, frozen=True):
    """Which answer this is and when, so that ids and times need no clock of their own."""

    number: int
    created_s: int


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request, understood as far as its path and the JSON of its body go."""

    operation: str
    model: str
    body: Json
    moment: Moment


class Voice(Protocol):
    """One dialect (and flavour) of upstream."""

    @property
    def dialect(self) -> str:
        """Its name in the log."""
        ...

    def reply(self, call: Call, script: Script) -> Reply:
        """Answer as the real server does. Raises: RefusedError where the real server refuses."""
        ...

    def refusal(self, fault: Fault) -> Reply:
        """The real error answer for the fault's code, reason, message and retry_after."""
        ...

    def trouble(self, fault: Fault) -> Iterable[Frame]:
        """The real error inside a stream that has begun, to its last frame."""
        ...

    def public(self, operation: str) -> bool:
        """Whether the real server answers this without a key."""
        ...

    def bad_key(self, *, missing: bool) -> Reply:
        """The real refusal of a key that is missing or wrong."""
        ...
