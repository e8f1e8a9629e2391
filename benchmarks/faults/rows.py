"""What is done to the first upstream, row by row, and what a client should see of it.

Where no content has reached the client, the second upstream's answer is due, whole and in time. Where some has, it
cannot be taken back: then an error event and the end marker are due, and nothing of the second. Two faults are none:
an empty answer that ends cleanly is an answer, and a content filter is a verdict; who asks elsewhere hides both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from mana_llm.simulator import Fault

Request = Literal["plain", "stream"]
Due = Literal["fallback", "told", "empty", "blocked", "filtered", "answer"]
Wait = Literal["error", "first token", "silence"]

AFTER: Final = 3
"""Pieces of content that come before a fault in the middle of a stream."""
REPEATED: Final = 5
"""Requests in a row that a persistent refusal gets: more than any breaker forgives."""


@dataclass(frozen=True)
class Row:
    """One fault at one moment.

    `wait` says by which limit a gateway can notice it. `late` is an answer that is well and comes too late. `times`
    requests are sent one after the other, and each must end as due.
    """

    fault: str
    request: Request
    due: Due
    script: Fault | None = None
    wait: Wait = "error"
    after_content: bool = False
    late: bool = False
    times: int = 1

    @property
    def moment(self) -> str:
        """How it was asked for, and where in the answer the fault is."""
        return f"{self.request}, after content" if self.after_content else self.request


FAULTS: Final = (
    "outage",
    "persistent 429",
    "persistent 503",
    "silent upstream",
    "slow first token",
    "role only, then hang",
    "stream cut",
    "stall",
    "malformed chunk",
    "empty answer",
    "in-band error",
    "content filter",
    "wrong content type",
    "half-close",
    "dead keep-alive connections",
    "sustained outage",
)


Pair = tuple[Row, Row]


def rows() -> list[Row]:
    """The card in its order. The sustained outage comes last: what it trips may rest for long."""
    return [
        *_both("outage", None),
        *_both("persistent 429", Fault(kind="status", code=429), times=REPEATED),
        *_both("persistent 503", Fault(kind="status", code=503), times=REPEATED),
        *_both("silent upstream", Fault(kind="hang"), wait="first token"),
        Row("slow first token", "plain", "fallback", wait="first token", late=True),
        Row("slow first token", "stream", "fallback", wait="first token", late=True),
        Row("role only, then hang", "stream", "fallback", Fault(kind="hang", how="role"), "first token"),
        *_anywhere("stream cut", Fault(kind="cut", how="fin"), Fault(kind="cut", how="fin", after=AFTER)),
        Row("stall", "plain", "fallback", Fault(kind="hang", how="chunks", after=1), "silence"),
        Row("stall", "stream", "told", Fault(kind="hang", how="chunks", after=AFTER), "silence", after_content=True),
        *_anywhere("malformed chunk", Fault(kind="malformed"), Fault(kind="malformed", after=AFTER)),
        *_both("empty answer", Fault(kind="empty"), "empty"),
        *_anywhere("in-band error", Fault(kind="error", code=500), Fault(kind="error", code=500, after=AFTER)),
        *_both("content filter", Fault(kind="filter"), "blocked"),
        Row("content filter", "stream", "filtered", Fault(kind="filter", after=AFTER), after_content=True),
        *_both("wrong content type", Fault(kind="html")),
        *_anywhere("half-close", Fault(kind="cut", how="half"), Fault(kind="cut", how="half", after=AFTER)),
        *_both("dead keep-alive connections", Fault(kind="dead", how="fin"), "answer"),
        *_both("sustained outage", Fault(kind="hang"), wait="first token"),
    ]


def _both(fault: str, script: Fault | None, due: Due = "fallback", *, wait: Wait = "error", times: int = 1) -> Pair:
    """Plain and streamed, from the beginning of the answer on."""
    return Row(fault, "plain", due, script, wait, times=times), Row(fault, "stream", due, script, wait, times=times)


def _anywhere(fault: str, before: Fault, after: Fault) -> Iterator[Row]:
    """A plain answer broken in its middle, a stream before its content, and one after."""
    # A plain answer counts as two pieces.
    middle = 1 if before.kind == "cut" else 0
    yield Row(fault, "plain", "fallback", Fault(kind=before.kind, how=before.how, code=before.code, after=middle))
    yield Row(fault, "stream", "fallback", before)
    yield Row(fault, "stream", "told", after, after_content=True)
