"""Turns `reasoning_effort` into Gemini's thinkingConfig, which differs by generation.

Source: DIALECTS 3.3 (the budgets are litellm's; which models refuse MINIMAL is from pydantic-ai's profiles
and two release notes). Thinking cannot be turned off on 2.5-pro and from 3 on: `none` means as little as the
model can.
"""

import re
from typing import Any, Final

from mana_llm.providers.failures.fields import Fields, read
from mana_llm.schema.errors import RequestError

_BUDGETS: Final = {
    "none": 0,
    "minimal": 128,
    "low": 1024,
    "medium": 2048,
    "high": 4096,
    "xhigh": 24576,
    "max": 24576,
}
# Source: ai.google.dev, thinking: 2.5-pro takes 128 to 32768, the Flash models 0 to 24576.
_PRO_BUDGET_MIN: Final = 128
_LEVELS: Final = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
_GENERATION: Final = re.compile(r"gemini-(\d+)(?:\.(\d+))?-")
_LATEST: Final = re.compile(r"gemini-(?:flash|flash-lite|pro)-latest")


def thinking_config(fields: Fields, model: str) -> dict[str, Any] | None:
    """The thinkingConfig; None if no effort was asked for, or the model has none to set.

    Raises:
        RequestError: if the effort is none of OpenAI's.
    """
    effort = read(fields, "reasoning_effort", str)
    if effort is None:
        return None
    if effort not in _LEVELS:
        raise RequestError(f"'reasoning_effort' must be one of {', '.join(_LEVELS)}.", param="reasoning_effort")
    name = model.removeprefix("models/")
    if name.startswith("gemini-2.5-"):
        return {"thinkingBudget": max(_BUDGETS[effort], _PRO_BUDGET_MIN if "-pro" in name else 0)}
    generation = _generation_of(name)
    if generation < (3, 0):
        return None
    level = _LEVELS[effort]
    takes_minimal = "-flash" in name and generation < (3, 7)
    return {"thinkingLevel": "LOW" if level == "MINIMAL" and not takes_minimal else level}


def _generation_of(name: str) -> tuple[int, int]:
    """(3, 5) for gemini-3.5-flash; (0, 0) for what is no Gemini. The latest ones count as newest of 3."""
    if _LATEST.fullmatch(name):
        return (3, 99)
    match = _GENERATION.match(name)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)
