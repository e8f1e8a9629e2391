"""Lines on their way to a terminal, a pipe or a file, without ever holding up whoever writes them.

A pipe that nobody reads blocks a write for ever, and with it an event loop that does the writing. So a thread does it,
from a queue that is bounded in bytes: what does not fit is dropped and counted, and once the lines flow again, one of
them says how many are missing.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

QUEUE_BYTES_MAX: Final = 4 * 1024 * 1024
DRAIN_S: Final = 1.0
"""Seconds that a stop waits for the last lines to be taken."""
RETRY_S: Final = 0.5
"""Seconds until a file that is not ready to be written is looked at again."""


class LineWriter:
    """Writes lines to the file descriptor `fd`; `notice` makes the line that says how many were dropped.

    The thread begins with the first line and does not keep the process alive. `dropped` counts the lines that were
    lost, `put` may be called from any thread.
    """

    def __init__(self, fd: int, notice: Callable[[int], bytes], bytes_max: int = QUEUE_BYTES_MAX) -> None:
        self.is_terminal = os.isatty(fd)
        self.dropped = 0
        self._fd = fd
        self._notice = notice
        self._bytes_max = bytes_max
        self._changed = threading.Condition()
        self._waiting: deque[tuple[bytes | bytearray, int]] = deque()
        self._waiting_bytes = 0
        self._unsaid = 0
        self._flows = True
        self._thread: threading.Thread | None = None

    def put(self, text: bytes | bytearray, lines: int = 1) -> None:
        """Hand over `lines` whole lines; they are dropped if too much is waiting."""
        with self._changed:
            # One piece always has room where nothing waits, however long it is.
            if self._waiting_bytes and self._waiting_bytes + len(text) > self._bytes_max:
                self._lose(lines)
                return
            self._waiting.append((text, lines))
            self._waiting_bytes += len(text)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def drain(self, wait_s: float) -> bool:
        """Wait until everything is written, at most so long; says whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting_bytes, wait_s)

    def _lose(self, lines: int) -> None:
        self.dropped += lines
        self._unsaid += lines

    def _run(self) -> None:
        while True:
            text, lines = self._next()
            self._flows = self._write(text)
            with self._changed:
                self._waiting_bytes -= len(text) if lines else 0
                if not self._flows:
                    self._lose(lines)
                self._changed.notify_all()

    def _next(self) -> tuple[bytes | bytearray, int]:
        """The next piece and how many lines it is; 0 for the notice, which comes when nothing else waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or (self._unsaid and self._flows))
            if self._waiting:
                return self._waiting.popleft()
            unsaid, self._unsaid = self._unsaid, 0
        return self._notice(unsaid), 0

    def _write(self, text: bytes | bytearray) -> bool:
        """Write all of it, however long that takes; False if the file is gone or full."""
        left = memoryview(text)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                # Whoever shares the file made it non-blocking.
                select.select([], [self._fd], [], RETRY_S)
            except OSError:
                return False
        return True
