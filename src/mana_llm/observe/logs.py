"""Log lines for what an operator should know of without looking at metrics; no prompt text, no keys."""

import logging
from typing import Final

_log: Final = logging.getLogger("mana_llm.health")


def log_transition(provider: str, healthy: bool) -> None:  # noqa: FBT001 - a health listener's shape
    """A provider was taken out, or is back."""
    if healthy:
        _log.info("%s is back", provider)
    else:
        _log.warning("%s rests after failures; GET /health says why", provider)
