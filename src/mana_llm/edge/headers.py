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
    # As in `_own_s`, less a call per request.
    exchange.overhead_s = own_s = max(0.0, now_s - exchange.began_s - exchange.waited_s - exchange.queued_s)
    headers = [
        (b"content-type", media_type),
        (b"x-mana-llm-resolved", answer.target.header),
        _ONE_ATTEMPT if exchange.attempts == 1 else (b"x-mana-llm-attempts", b"%d" % exchange.attempts),
        _NO_CACHE if exchange.cache == "off" else (b"x-mana-llm-cache", exchange.cache.encode()),
        (b"server-timing", server_timing(exchange, own_s)),
    ]
    if answer.ignored:
        headers.append((b"x-mana-llm-ignored", ignored_header(answer.ignored)))
    return headers


def common_headers(exchange: Exchange) -> Headers:
    """What every answer says, whatever it answers."""
    return [(b"x-mana-llm-config", exchange.config.encode()), (b"x-request-id", exchange.request_id.encode())]


def failure_headers(exchange: Exchange, now_s: float) -> Headers:
    """What an error that is told now says of the walk that led to it, if there was one."""
    if not exchange.walks:
        return [own_timing(exchange, now_s)]
    return [
        (b"x-mana-llm-attempts", b"%d" % exchange.attempts),
        (b"x-mana-llm-cache", exchange.cache.encode()),
        (b"server-timing", server_timing(exchange, _own_s(exchange, now_s))),
    ]


def own_timing(exchange: Exchange, now_s: float) -> tuple[bytes, bytes]:
    """`Server-Timing` where nobody was asked: all of the time was ours."""
    return b"server-timing", b"gateway;dur=%.2f" % (1e3 * _own_s(exchange, now_s))


def early_timing(exchange: Exchange, now_s: float, walked_s: float) -> tuple[bytes, bytes]:
    """`Server-Timing` of a head that leaves before anybody has answered, `walked_s` after the walk began: the queue
    if it is over, and what came before the walk. Who is still waited for is not known.
    """
    own_s = max(0.0, now_s - exchange.began_s - walked_s)
    return b"server-timing", b"queue;dur=%.2f, gateway;dur=%.2f" % (1e3 * exchange.queued_s, 1e3 * own_s)


def _own_s(exchange: Exchange, now_s: float) -> float:
    """What was not spent on waiting until now."""
    # A hedge waits twice at a time.
    return max(0.0, now_s - exchange.began_s - exchange.waited_s - exchange.queued_s)


def server_timing(exchange: Exchange, own_s: float) -> bytes:
    """Where the time went until the answer, or a stream's first content; milliseconds.

    `queue` is waiting for a place, `gateway` our own, `connect` connecting to providers, `first-token` waiting for
    them after that. Source: W3C Server Timing, section 3.
    """
    connect_s = exchange.connect_s
    # Connecting has taken a moment even by a clock that has not moved, so that it may seem to be more than everything.
    first_s = exchange.waited_s - connect_s if exchange.waited_s > connect_s else 0.0
    if connect_s or exchange.queued_s:
        early = b"queue;dur=%.2f, connect;dur=%.2f" % (1e3 * exchange.queued_s, 1e3 * connect_s)
    else:
        # Most requests wait for neither.
        early = b"queue;dur=0.00, connect;dur=0.00"
    return b"%b, first-token;dur=%.2f, gateway;dur=%.2f" % (early, 1e3 * first_s, 1e3 * own_s)


def ignored_header(names: tuple[str, ...]) -> bytes:
    """The fields' names, sorted; JSON keys are client data, so an odd one is written `?`."""
    shown = sorted({name if _PLAIN_NAME(name) else "?" for name in names})
    text = ", ".join(shown).encode()
    return text if len(text) <= IGNORED_BYTES_MAX else text[:IGNORED_BYTES_MAX].rpartition(b",")[0]
