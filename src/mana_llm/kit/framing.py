"""Cuts a stream of bytes into server-sent events or JSON lines, wherever the network happened to split it."""

from typing import Final

LINE_BYTES_MAX: Final = 8 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class FrameTooLargeError(ValueError):
    """One event or line outgrew its limit."""


class _Splitter:
    """Splits at a separator and keeps the unfinished tail, looking at each byte about once."""

    def __init__(self, separator: bytes, bytes_max: int) -> None:
        self._separator = separator
        self._bytes_max = bytes_max
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        if self._tail:
            # Only the seam and the new bytes can hold the separator: a long line is not searched again and again.
            seam = max(0, len(self._tail) - len(self._separator) + 1)
            self._tail += data
            if self._tail.find(self._separator, seam) < 0:
                self._check(len(self._tail))
                return []
            data = self.flush()
        frames = data.split(self._separator)
        rest = frames.pop()
        if rest:
            if not frames:
                self._check(len(rest))
            # With frames to give, a tail that is too large is told at the next piece: nothing good is lost.
            self._tail += rest
        return frames

    def flush(self) -> bytes:
        rest = bytes(self._tail)
        self._tail.clear()
        return rest

    def _check(self, size: int) -> None:
        if size > self._bytes_max:
            raise FrameTooLargeError(f"a line of more than {self._bytes_max} bytes")


class SSEDecoder:
    """Server-sent events: gives the `data` of each event; comments, names, ids and retry are dropped.

    Source: WHATWG HTML, section 9.2.6 (CRLF, LF and CR end lines; one space after the colon goes; several data
    lines are joined by LF; an event without data is none). No provider needs the names: an error says so in its
    data. One deviation: an event that the end of the body cuts off before its blank line is given by `flush`,
    since some servers forget it after `[DONE]`.
    """

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._splitter = _Splitter(b"\n\n", bytes_max)
        self._after_cr = False
        self._head: bytes | None = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes.

        Raises:
            FrameTooLargeError: if an event outgrows its limit.
        """
        if self._head is not None:
            data = self._without_bom(self._head + data)
        if self._after_cr or b"\r" in data:
            data = self._with_lf(data)
        events = []
        for block in self._splitter.feed(data):
            # Nearly every event is one line of data; seen here, it is spared a call and two lists.
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(block[6:])
            elif (event := _data_of(block)) is not None:
                events.append(event)
        return events

    def flush(self) -> list[bytes]:
        """The event that the end of the body cut short, if there is one."""
        event = _data_of(self._splitter.flush())
        return [] if event is None else [event]

    def _with_lf(self, data: bytes) -> bytes:
        # A CR that ends a piece has ended a line; an LF at the start of the next piece belongs to it.
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, head: bytes) -> bytes:
        # One byte order mark at the very start is dropped, even if it comes in three pieces.
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)


class LineDecoder:
    """JSON lines (NDJSON): gives each line that is not blank, without its end."""

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._splitter = _Splitter(b"\n", bytes_max)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes.

        Raises:
            FrameTooLargeError: if a line outgrows its limit.
        """
        return [line for line in self._splitter.feed(data) if line.strip()]

    def flush(self) -> list[bytes]:
        """The line that the end of the body cut short, if there is one."""
        rest = self._splitter.flush()
        return [rest] if rest.strip() else []


def _data_of(block: bytes) -> bytes | None:
    """The data of one event; None if it has none (comments, a bare name)."""
    lines = [_value(line) for line in block.split(b"\n") if line == b"data" or line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def _value(line: bytes) -> bytes:
    return line[5:].removeprefix(b" ")
