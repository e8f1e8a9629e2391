"""Takes the Markdown fence off a structured answer, which some models put around JSON though told not to.

Only the fence that opens the answer, plain or marked as JSON, and the one that closes it go: the first with the
white space around it, the other with the newline before it and the white space after it. An answer that does not
open with one is not touched, nor is a fence within the JSON.

    begin --- a fence ---> inner --- something else than white space ---> body
      `------ no fence ---> plain

What could still become a fence is held back; everything else is passed on at once.
"""

import re
from typing import Final, Literal

HELD_CHARS_MAX: Final = 1000
"""White space before the opening fence, or after the closing one, beyond which it is none: memory has a limit."""

_WHITE: Final = " \t\r\n"
_LEADING: Final = f"[ \\t\\r\\n]{{0,{HELD_CHARS_MAX}}}"
_OPENING: Final = re.compile(_LEADING + r"```(?:json)?(?=[ \t\r\n{\[])", re.IGNORECASE)
# What can become an opening fence when more comes.
_MAYBE_OPENING: Final = re.compile(_LEADING + r"(?:`{0,2}|```(?:j(?:s(?:on?)?)?)?)", re.IGNORECASE)
_ONLY_CLOSING: Final = re.compile(r"\s*```\s*")


class FenceStripper:
    """One answer's text, fed in pieces; however it is split, the pieces that come out say the same."""

    def __init__(self) -> None:
        self._state: Literal["begin", "inner", "body", "plain"] = "begin"
        self._held = ""
        # What was passed on last is a run of more than three backticks, which may go on.
        self._in_ticks = False

    def feed(self, text: str) -> str:
        """What of the text so far can be passed on."""
        text = self._held + text
        self._held = ""
        if self._state == "begin":
            text = self._begin(text)
        if self._state == "inner":
            text = text.lstrip(_WHITE)
            if text:
                self._state = "body"
        return self._without_tail(text) if self._state == "body" else text

    def end(self) -> str:
        """What was held back and is no fence."""
        held, self._held = self._held, ""
        return "" if self._state == "body" and _ONLY_CLOSING.fullmatch(held) else held

    def _begin(self, text: str) -> str:
        if opening := _OPENING.match(text):
            self._state = "inner"
            return text[opening.end() :]
        if _MAYBE_OPENING.fullmatch(text):
            self._held = text
            return ""
        self._state = "plain"
        return text

    def _without_tail(self, text: str) -> str:
        """Hold back what may be the closing fence, or its beginning."""
        passed = len(text) - len(text.lstrip("`")) if self._in_ticks else 0
        self._in_ticks = self._in_ticks and passed == len(text)
        rest = text[passed:]
        said = rest.rstrip(_WHITE)
        bare = said.rstrip("`")
        ticks, white = len(said) - len(bare), len(rest) - len(said)
        if white and (ticks != 3 or white > HELD_CHARS_MAX):
            start = _before_newline(rest)
        elif ticks > 3:
            self._in_ticks, start = True, len(rest)
        else:
            start = _before_newline(bare)
        self._held = rest[start:]
        return text[: passed + start]


def _before_newline(text: str) -> int:
    """Where the newline at the end of `text` begins; its length if there is none."""
    return len(text) - (2 if text.endswith("\r\n") else text.endswith(("\r", "\n")))
