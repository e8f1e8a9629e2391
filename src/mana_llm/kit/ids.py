"""Request ids: unique here and nowhere repeated, at the cost of counting."""

import re
from itertools import count
from typing import Final

_SANE: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}").fullmatch


class Ids:
    """Gives `<prefix><number>`; the prefix is drawn at start, so that two runs never give the same id."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._numbers = count(1)

    def next(self) -> str:
        return f"{self._prefix}{next(self._numbers):08x}"


def sane_id(value: bytes) -> str | None:
    """A client's own request id if it can be shown in headers and logs, else None."""
    return value.decode("ascii") if _SANE(value) else None
