"""Turns the two wishes for reasoning into Gemini's thinkingConfig, which differs by generation.

`reasoning_effort` is OpenAI's; `reasoning: {effort, max_tokens, exclude, enabled}` is OpenRouter's, and
OpenAI's goes before it. Nothing is sent unless one of them was given; whoever wishes for reasoning gets to
read the thoughts, unless excluded.

Source: docs/sources.md (Gemini) (the budgets are litellm's; which models refuse MINIMAL is from pydantic-ai's profiles
and two release notes); openrouter.ai/docs, reasoning tokens. Thinking cannot be turned off on 2.5-pro and
from 3 on: `none` means as little as the model can.
"""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import Fields, read
from mana_llm.providers.google.generation import bare, generation_of
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
# Source: ai.google.dev, thinking: the least and the most that a budget can be, where there is one. 2.5-pro
# takes 128 to 32768, Flash up to 24576, Flash-Lite from 512; 0 turns it off, but not for 2.5-pro.
_PRO_RANGE: Final = (128, 32768)
_FLASH_RANGE: Final = (1, 24576)
_FLASH_LITE_RANGE: Final = (512, 24576)
_LEVELS: Final = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}


class _Wish(msgspec.Struct):
    effort: str | None = None
    max_tokens: int | None = None
    exclude: bool | None = None
    enabled: bool | None = None


def thinking_config(fields: Fields, model: str) -> dict[str, Any] | None:
    """The thinkingConfig; None if no reasoning was asked for, or the model has none to set.

    Raises:
        RequestError: if a wish cannot be read; `param` names it.
    """
    wish = _wish_in(fields)
    generation = generation_of(model)
    if wish is None or generation < (2, 5):
        return None
    config = _amount(wish, model) if generation < (3, 0) else _level(wish, model)
    if wish.effort != "none" and not wish.exclude:
        config["includeThoughts"] = True
    return config or None


def _wish_in(fields: Fields) -> _Wish | None:
    effort = read(fields, "reasoning_effort", str)
    wish: _Wish | None = read(fields, "reasoning", _Wish)
    if effort is None and wish is None:
        return None
    param = "reasoning.effort" if effort is None else "reasoning_effort"
    wish = wish or _Wish()
    if effort is not None:
        wish.effort, wish.max_tokens = effort, None
    elif wish.enabled is False or (wish.effort is None and wish.max_tokens == 0):
        wish.effort = "none"
    if wish.effort is not None and wish.effort not in _LEVELS:
        raise RequestError(f"'{param}' must be one of {', '.join(_LEVELS)}.", param=param)
    if wish.max_tokens is not None and wish.max_tokens < 0:
        raise RequestError("'reasoning.max_tokens' must not be negative.", param="reasoning.max_tokens")
    return wish


def _amount(wish: _Wish, model: str) -> dict[str, Any]:
    """A budget in tokens, as 2.5 takes it."""
    budget = wish.max_tokens if wish.effort is None else _BUDGETS[wish.effort]
    if budget is None:
        return {}
    name = bare(model)
    if "-pro" in name:
        least, most = _PRO_RANGE
    else:
        least, most = _FLASH_LITE_RANGE if "-flash-lite" in name else _FLASH_RANGE
        least = least if budget else 0
    return {"thinkingBudget": min(max(budget, least), most)}


def _level(wish: _Wish, model: str) -> dict[str, Any]:
    """A level, as 3 and later take it; a wish in tokens is the effort that it would pay for."""
    effort = wish.effort
    if effort is None and wish.max_tokens is not None:
        effort = max(
            (name for name in _LEVELS if _BUDGETS[name] <= wish.max_tokens),
            key=_BUDGETS.__getitem__,
        )
    if effort is None:
        return {}
    level = _LEVELS[effort]
    takes_minimal = "-flash" in bare(model) and generation_of(model) < (3, 7)
    return {"thinkingLevel": "LOW" if level == "MINIMAL" and not takes_minimal else level}
