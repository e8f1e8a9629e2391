"""Which generation of Gemini a model is, by its name: what the API takes depends on it.

Source: docs/sources.md (Gemini). The aliases gemini-flash-latest, gemini-flash-lite-latest and
gemini-pro-latest are listed among the models of 3 and later, and whatever they name will not get older.
"""

import re
from typing import Final

UNKNOWN: Final = (0, 0)
_NUMBERED: Final = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?:-|$)")
_LATEST: Final = re.compile(r"gemini-(?:flash|flash-lite|pro)-latest")
# Newer than any model of 3 that has a rule of its own, and older than 4.
_NEWEST_KNOWN: Final = (3, 99)


def bare(model: str) -> str:
    """The name without `models/`."""
    return model.removeprefix("models/")


def generation_of(model: str) -> tuple[int, int]:
    """(3, 5) for gemini-3.5-flash, (3, 0) for gemini-3-pro-preview; UNKNOWN for what is no Gemini by its name."""
    name = bare(model)
    if _LATEST.fullmatch(name):
        return _NEWEST_KNOWN
    match = _NUMBERED.match(name)
    return (int(match[1]), int(match[2] or 0)) if match else UNKNOWN


def is_before(model: str, generation: tuple[int, int]) -> bool:
    """Whether the model is known to be older than `generation`; of an unknown one nothing is known."""
    return UNKNOWN != generation_of(model) < generation
