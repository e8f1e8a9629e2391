"""When a rate limit ends, as the families of `x-ratelimit` headers say it.

| who | header | format |
|---|---|---|
| OpenAI, Groq and kin | x-ratelimit-reset-requests, -tokens | Go durations: 12ms, 8.64s, 1m53.425s |
| Together | x-ratelimit-reset | seconds |
| Mistral (older) | ratelimitbysize-reset | seconds |
| Hugging Face | ratelimit: "api";r=0;t=295 | seconds, t |
| OpenRouter | x-ratelimit-reset | milliseconds since 1970, told from the answer's own Date |

Source: recorded headers (docs/sources.md).
"""

import re
from typing import Final

from mana_llm.providers.failures.instants import seconds_until
from mana_llm.schema.wire import Headers

SECONDS_MAX: Final = 7 * 86_400.0
"""More is an instant and no duration, or a limit whose end nobody waits for."""
MILLISECONDS_MIN: Final = 1e11
"""An instant of so much is of milliseconds: as seconds it would be in the year 5138."""

_DURATION: Final = re.compile(
    rb"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{0,12})?)s)?(?:(\d{1,9}(?:\.\d{0,12})?)ms)?"
)
_PLAIN: Final = re.compile(rb"\d{1,9}(?:\.\d{0,12})?")
_INSTANT: Final = re.compile(rb"\d{10,13}")
_STRUCTURED: Final = re.compile(rb";\s*r=0\s*;\s*t=(\d{1,9})")
_UNITS_S: Final = (3600.0, 60.0, 1.0, 0.001)


def reset_after_s(headers: Headers) -> float | None:
    """Seconds until the limit that was hit is lifted; None if the headers do not say so.

    Of several limits those count that have nothing left; if all have, the tokens', of which a request may need
    more than are left.
    """
    given = dict(headers)
    kinds = (b"requests", b"tokens")
    resets = {kind: _seconds(given.get(b"x-ratelimit-reset-" + kind, b"")) for kind in kinds}
    spent = [resets[kind] for kind in kinds if given.get(b"x-ratelimit-remaining-" + kind, b"").strip() == b"0"]
    waits = [wait for wait in spent if wait is not None] or [
        wait
        for wait in (
            resets[b"tokens"],
            _seconds(given.get(b"x-ratelimit-reset", b"")),
            _until(given.get(b"x-ratelimit-reset", b""), headers),
            _seconds(given.get(b"ratelimitbysize-reset", b"")),
            _structured(given.get(b"ratelimit", b"")),
        )
        if wait is not None
    ]
    return max(waits, default=None)


def _seconds(text: bytes) -> float | None:
    text = text.strip()
    if _PLAIN.fullmatch(text):
        seconds = float(text)
    elif text and (found := _DURATION.fullmatch(text)):
        seconds = sum(float(count) * unit for count, unit in zip(found.groups(), _UNITS_S, strict=True) if count)
    else:
        return None
    return seconds if seconds <= SECONDS_MAX else None


def _until(text: bytes, headers: Headers) -> float | None:
    """Seconds until an instant, in seconds or milliseconds since 1970."""
    if not _INSTANT.fullmatch(text.strip()):
        return None
    instant = float(text)
    seconds = seconds_until(instant / 1000 if instant >= MILLISECONDS_MIN else instant, headers)
    return None if seconds is None or seconds > SECONDS_MAX else seconds


def _structured(text: bytes) -> float | None:
    found = _STRUCTURED.search(text)
    return float(found[1]) if found else None
