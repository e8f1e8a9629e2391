"""Instants as seconds from now. Nothing here has a clock: an answer's own Date header says when it was sent."""

from datetime import UTC, datetime

from mana_llm.schema.wire import Headers


def seconds_until(instant: datetime | float, headers: Headers) -> float | None:
    """How long after the answer with these headers an instant is (a float: seconds since 1970), 0 if it is before.

    None if the answer does not say when it was sent.
    """
    sent = date_of(dict(headers).get(b"date", b""))
    if sent is None:
        return None
    instant_s = instant if isinstance(instant, float) else instant.timestamp()
    return max(instant_s - sent.timestamp(), 0.0)


def date_of(text: bytes) -> datetime | None:
    """An HTTP date in the one form that is still written; None if it is none. Source: RFC 9110, section 5.6.7."""
    try:
        return datetime.strptime(text.decode("latin-1").strip(), "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return None
