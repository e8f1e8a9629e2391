"""The rules: what a client saw, against what was due. Pure; each rule gives the reason why it is broken."""

from dataclasses import dataclass
from typing import Final

from benchmarks.faults.rows import Due, Row, Wait
from benchmarks.faults.seen import Seen
from benchmarks.faults.upstreams import FIRST_TEXT, SECOND_TEXT

_FIRST_MARK: Final = "<first"
_SECOND_MARK: Final = "<second"


@dataclass(frozen=True)
class Terms:
    """What the gateway was told, and what the card asks of it; all in seconds but `added_ms`.

    `slack_s` is what a limit may be overrun by until the other answer is there.
    """

    first_token_s: float = 2.0
    idle_s: float = 2.0
    failover_s: float = 2.0
    slack_s: float = 1.0
    settle_s: float = 120.0
    added_ms: float = 2.0

    def limit_s(self, wait: Wait, request: str = "stream") -> float:
        """The most that a fault may cost, by what it takes to notice it."""
        # A plain answer that stalls in its middle may be seen as silence or as an answer that is late.
        silence_s = max(self.idle_s, self.first_token_s) if request == "plain" else self.idle_s
        limits = {"error": self.failover_s, "first token": self.first_token_s, "silence": silence_s}
        return limits[wait] + (0.0 if wait == "error" else self.slack_s)

    @property
    def patience_s(self) -> float:
        """How long the client waits for the end of an answer before it calls it hung."""
        return 2 * max(self.first_token_s, self.idle_s, self.failover_s) + self.slack_s


def voice(seen: Seen) -> str:
    """Whose words the answer has."""
    voices = [name for name, mark in (("first", _FIRST_MARK), ("second", _SECOND_MARK)) if mark in seen.text]
    return " and ".join(voices)


def cost_s(row: Row, seen: Seen) -> float:
    """What the fault cost: to the first content, or from the last content to the word about it; -1.0 if neither."""
    if seen.error_s >= 0 and seen.last_s >= 0:
        return seen.error_s - seen.last_s
    if row.due in ("blocked", "empty"):
        return seen.end_s
    return seen.first_s


def judge(row: Row, seen: Seen, terms: Terms) -> str:
    """Why this is not what was due; "" if it is."""
    if broken := _broken(seen):
        return broken
    if wrong := _RULES[row.due](seen, row):
        return wrong
    cost, limit_s = cost_s(row, seen), terms.limit_s(row.wait, row.request)
    return f"late: {cost:.2f} s, at most {limit_s:g} s" if cost > limit_s else ""


def _broken(seen: Seen) -> str:
    """What is wrong with any answer."""
    if seen.ended == "hung":
        return f"hung: no end within {seen.end_s:.1f} s"
    if seen.ended == "refused":
        return "the connection ended without an answer"
    if " and " in voice(seen):
        return "spliced: words of both upstreams"
    if seen.junk:
        return "passed on what is no JSON"
    return "the connection was cut within the answer" if seen.ended == "cut" else ""


def _fallback(seen: Seen, row: Row) -> str:
    return _whole(seen, SECOND_TEXT, row)


def _answer(seen: Seen, row: Row) -> str:
    return _whole(seen, FIRST_TEXT if _FIRST_MARK in seen.text else SECOND_TEXT, row)


def _whole(seen: Seen, text: str, row: Row) -> str:
    if seen.status != 200 or seen.errors:
        return f"an error ({', '.join(seen.errors) or seen.status}) where an answer was due"
    if seen.text != text:
        return f"not the answer that was due but {_said(seen)}"
    return _unfinished(seen, row, "stop")


def _told(seen: Seen, row: Row) -> str:
    if seen.text == SECOND_TEXT:
        # Whatever the first had said was kept back: to the client no content had flowed.
        return _fallback(seen, row)
    if seen.status != 200:
        return f"status {seen.status}, although content had come"
    if not seen.text or not FIRST_TEXT.startswith(seen.text):
        return f"not the beginning of the first's answer but {_said(seen)}"
    if not seen.errors:
        return "silent about the break: no error event"
    if len(seen.errors) > 1:
        return f"{len(seen.errors)} error events"
    if seen.finishes:
        return f"an invented finish: {seen.finishes[0]}"
    return "" if seen.tidy else "the error event is not followed by [DONE] alone"


def _empty(seen: Seen, row: Row) -> str:
    if seen.status != 200 or seen.errors:
        return f"an error ({', '.join(seen.errors) or seen.status}): a clean empty answer is an answer"
    if seen.text:
        return f"{_said(seen)}: a clean empty answer is an answer"
    return _unfinished(seen, row, "stop")


def _blocked(seen: Seen, _row: Row) -> str:
    if seen.status != 422 or not seen.errors:
        return f"status {seen.status} and {_said(seen)}: a content filter is a 422"
    return ""


def _filtered(seen: Seen, row: Row) -> str:
    if seen.errors or not seen.text or not FIRST_TEXT.startswith(seen.text):
        return f"an error or {_said(seen)}: a filter after content is a finish"
    return _unfinished(seen, row, "content_filter")


def _unfinished(seen: Seen, row: Row, finish: str) -> str:
    if seen.finishes != [finish]:
        return f"finish reasons {seen.finishes}, not {finish}"
    return "no [DONE] at the end" if row.request == "stream" and not seen.tidy else ""


def _said(seen: Seen) -> str:
    return f"{len(seen.text)} characters of the {voice(seen)}'s" if seen.text else "no words"


_RULES: Final = {
    "fallback": _fallback,
    "told": _told,
    "empty": _empty,
    "blocked": _blocked,
    "filtered": _filtered,
    "answer": _answer,
}
_DUE_WORDS: Final[dict[Due, str]] = {
    "fallback": "fallback",
    "told": "error in-band",
    "empty": "empty (final)",
    "blocked": "422 (final)",
    "filtered": "content_filter",
    "answer": "an answer",
}


def due_words(due: Due) -> str:
    """What is due, in a few words."""
    return _DUE_WORDS[due]


def saw_words(seen: Seen) -> str:
    """What was seen, in a few words."""
    if seen.ended == "refused":
        return "nothing"
    parts = [str(seen.status)] if seen.status else []
    if seen.text:
        whole = seen.text in (FIRST_TEXT, SECOND_TEXT)
        parts.append(f"{voice(seen)}'s {'answer' if whole else 'beginning' if seen.text[:6] == '<first' else 'words'}")
    parts += [f"error {name}" for name in seen.errors]
    parts += [finish for finish in seen.finishes if finish != "stop"]
    parts += ["[DONE]"] if seen.done else []
    return ", ".join([*parts, *([seen.ended] if seen.ended != "complete" else [])])
