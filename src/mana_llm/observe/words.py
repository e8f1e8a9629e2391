"""Text and instants as a log line shows them: what a client said cannot end a line or move a terminal's cursor."""

import json
from datetime import UTC, datetime
from typing import Final

import msgspec

SHOWN_MAX: Final = 200
"""Characters of a client's text that a line shows."""


def iso_time(wall_s: float) -> str:
    """A Unix time in ISO 8601, UTC, with milliseconds: `2026-11-21T08:30:00.125Z`."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def json_text(text: str) -> str | msgspec.Raw:
    """A text for a JSON line, bounded; whatever is not printable ASCII is escaped."""
    if len(text) > SHOWN_MAX:
        text = text[:SHOWN_MAX]
    if text.isascii() and text.isprintable():
        return text
    # Even JSON ends up on terminals: C1 controls and changes of direction are escaped as well.
    return msgspec.Raw(json.dumps(text).encode())


def plain_text(text: str) -> str:
    """A text for a terminal, bounded; whatever is not printable ASCII is escaped, and what has spaces is quoted."""
    text = text[:SHOWN_MAX]
    return text if text.isascii() and text.isprintable() and " " not in text else ascii(text)
