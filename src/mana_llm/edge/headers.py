"""What the headers of an answer say: who gave it, after how many tries, and where the time went."""

import re
from typing import Final

from mana_llm.routing.answer import Answer
from mana_llm.schema.events import Exchange
from mana_llm.schema.wire import Headers

_ONE_ATTEMPT: Final = (b"x-mana-llm-attempts", b"1")
_NO_CACHE: Final = (b"x-mana-llm-cache", b"off")
IGNORED_BYTES_MAX: Final = 1024
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}").fullmatch

# Of a stream only what is certain when its head leaves; the rest is in the metric.
PROMPT_TRUNCATED: Final = (b"x-mana-llm-prompt-truncated", b"true")


def answer_headers(exchange: Exchange, answer: Answer, media_type: bytes, now_s: float) -> Headers:
    """The headers of an answer that is sent now; the exchange learns who gave it, and what the gateway took."""
    exchange.status = 200
    exchange.target = answer.target
    # A hedge waits twice at a time.
    exchange.overhead_s = max(0.0, now_s - exchange.began_s - exchange.waited_s - exchange.queued_s)
    headers = [
        (b"content-type", media_type),
        (b"x-mana-llm-resolved", answer.target.header),
        _ONE_ATTEMPT if exchange.attempts == 1 else (b"x-mana-llm-attempts", b"%d" % exchange.attempts),
        _NO_CACHE,
        (b"server-timing", server_timing(exchange)),
    ]
    if answer.ignored:
        headers.append((b"x-mana-llm-ignored", ignored_header(answer.ignored)))
    return headers


def common_headers(exchange: Exchange) -> Headers:
    """What every answer says, whatever it answers."""
    return [(b"x-mana-llm-config", exchange.config.encode()), (b"x-request-id", exchange.request_id.encode())]


def failure_headers(exchange: Exchange) -> Headers:
    """What an error tells of the walk that led to it."""
    return [
        (b"x-mana-llm-attempts", b"%d" % exchange.attempts),
        (b"x-mana-llm-cache", b"off"),
        (b"server-timing", server_timing(exchange)),
    ]


def server_timing(exchange: Exchange) -> bytes:
    """Where the time went until the answer, or a stream's first content; milliseconds.

    `queue` is waiting for a place, `gateway` our own (not known of failures), `connect` connecting to providers,
    `first-token` waiting for them after that. Source: W3C Server Timing, section 3.
    """
    connect_s, overhead_s = exchange.connect_s, exchange.overhead_s
    # Two clocks: the loop's own goes in steps of a millisecond, so that connecting may seem to be more than everything.
    first_s = exchange.waited_s - connect_s if exchange.waited_s > connect_s else 0.0
    if connect_s or exchange.queued_s:
        early = b"queue;dur=%.2f, connect;dur=%.2f" % (1e3 * exchange.queued_s, 1e3 * connect_s)
    else:
        # Most requests wait for neither.
        early = b"queue;dur=0.00, connect;dur=0.00"
    if overhead_s is None:
        return b"%b, first-token;dur=%.2f" % (early, 1e3 * first_s)
    return b"%b, first-token;dur=%.2f, gateway;dur=%.2f" % (early, 1e3 * first_s, 1e3 * overhead_s)


def ignored_header(names: tuple[str, ...]) -> bytes:
    """The fields' names, sorted; JSON keys are client data, so an odd one is written `?`."""
    shown = sorted({name if _PLAIN_NAME(name) else "?" for name in names})
    text = ", ".join(shown).encode()
    return text if len(text) <= IGNORED_BYTES_MAX else text[:IGNORED_BYTES_MAX].rpartition(b",")[0]
