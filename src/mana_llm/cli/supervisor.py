"""The parent of several workers: it starts them, starts them again, and hands on what it is told.

It never serves: it holds the listening socket, which the workers inherit, and one socket pair per worker. What it has
to say goes through the pair, not as a signal: service managers and terminals send theirs to the workers too, and a
worker must not take the same wish for two. The end of the pair says that the other side is gone, however it went.
"""

import logging
import math
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from mana_llm.cli.worker import END_NOW, READY, RELOAD, STOP, STOP_ACCEPTING, Worker
from mana_llm.observe.clock import SystemClock
from mana_llm.observe.logs import DirectHandler
from mana_llm.settings import Settings

_log: Final = logging.getLogger("mana_llm.workers")

FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
BEGUN_S: Final = 1.0
"""Seconds of life after which a worker's death is no longer a bad start."""
DELAY_S: Final = 0.1
DELAY_READY_S_MAX: Final = 0.5
"""Seconds until another is started, doubled with each bad start in a row, for workers that had begun to serve."""
DELAY_S_MAX: Final = 10.0
"""The same for those that had not: something is wrong with the configuration or the machine."""
OVERTIME_S: Final = 5.0
"""Seconds beyond the drain, or after a second signal, before workers that are still there are killed."""
REAP_S: Final = 0.05


def worker_of(settings: Settings, listener: socket.socket) -> Worker:
    """Return in every worker, as it; the parent ends here, once all of them have.

    Raises:
        SystemExit: in the parent.
    """
    folder, parent = Path(tempfile.mkdtemp(prefix="mana-llm-")), os.getpid()
    try:
        with _log_lines(settings):
            worker = Supervisor(settings, listener, folder, SystemClock.now_s).run()
    finally:
        if os.getpid() == parent:
            shutil.rmtree(folder, ignore_errors=True)
    if worker is None:
        sys.exit(0)
    return worker


@contextmanager
def _log_lines(settings: Settings) -> Iterator[None]:
    """The parent's log, to standard error; a worker, which leaves this by returning, has one of its own."""
    root, handler = logging.getLogger(), DirectHandler()
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)


class Slot:
    """The place of one worker, which several may hold one after the other."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid = 0
        self.link: socket.socket | None = None
        self.ready = False
        self.lives = 0
        self.bad_starts = 0
        self.began_s = 0.0
        self.due_s = 0.0
        self.kill_at_s = math.inf

    def delay_s(self, now_s: float) -> float:
        """How long to wait before the next life, now that one has ended."""
        if self.ready and now_s - self.began_s >= BEGUN_S:
            self.bad_starts = 0
            return 0.0
        self.bad_starts += 1
        longest_s = DELAY_READY_S_MAX if self.ready else DELAY_S_MAX
        return min(DELAY_S * 2.0 ** min(self.bad_starts - 1, 16), longest_s)


class Supervisor:
    """Keeps the workers alive until it is told to stop; then gives them the drain to end by themselves.

    `folder` is where the workers tell each other what they have counted.
    """

    def __init__(self, settings: Settings, listener: socket.socket, folder: Path, now_s: Callable[[], float]) -> None:
        self._slots = [Slot(index) for index in range(settings.workers)]
        self._listener = listener
        self._folder = folder
        self._drain_s = settings.drain_s
        self._now_s = now_s
        self._told: list[int] = []
        self._proven = self._stopping = False

    def run(self) -> Worker | None:
        """In the parent: return None once all is over. In each worker: return what it is, to go and serve.

        Raises:
            SystemExit: in the parent, with the worker's code, if the first worker ends before it serves.
        """
        with self._signals() as wakeup:
            while True:
                worker = self._start_due()
                if worker:
                    break
                self._wait(wakeup)
                self._obey()
                self._reap()
                if self._stopping and not any(slot.pid for slot in self._slots):
                    return None
        return worker

    def _start_due(self) -> Worker | None:
        """Fork the workers that are due; the first alone, until it serves: what it cannot, none can."""
        if self._stopping:
            return None
        for slot in self._slots if self._proven else self._slots[:1]:
            if not slot.pid and self._now_s() >= slot.due_s:
                worker = self._fork(slot)
                if worker:
                    return worker
        return None

    def _fork(self, slot: Slot) -> Worker | None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            theirs.close()
            ours.settimeout(0.0)
            slot.pid, slot.link, slot.ready = pid, ours, False
            slot.began_s, slot.kill_at_s = self._now_s(), math.inf
            slot.lives += 1
            return None
        # A copy of the parent's end would keep this pair open after the parent's death.
        ours.close()
        for other in self._slots:
            if other.link:
                other.link.close()
        theirs.settimeout(0.0)
        return Worker(slot.index, theirs, self._folder, first=slot.index == 0 and slot.lives == 0)

    def _wait(self, wakeup: socket.socket) -> None:
        """Until a signal, a word from a worker, or the next thing that is due."""
        now_s = self._now_s()
        links = [slot.link for slot in self._slots if slot.link]
        at_s = [slot.kill_at_s for slot in self._slots if slot.pid]
        if any(slot.pid and not slot.link for slot in self._slots):
            at_s.append(now_s + REAP_S)
        if self._proven and not self._stopping:
            at_s += [slot.due_s for slot in self._slots if not slot.pid]
        next_s = min(at_s, default=math.inf)
        wait_s = None if next_s == math.inf else max(0.0, next_s - now_s)
        readable, _, _ = select.select([wakeup, *links], [], [], wait_s)
        if wakeup in readable:
            wakeup.recv(4096)
        for slot in self._slots:
            if slot.link in readable:
                self._hear(slot, slot.link)

    def _hear(self, slot: Slot, link: socket.socket) -> None:
        try:
            said = link.recv(64)
        except OSError:
            said = b""
        if READY in said:
            slot.ready = self._proven = True
        if not said:
            link.close()
            slot.link = None
            # It has closed its end because it ends, and has a moment for that.
            slot.kill_at_s = min(slot.kill_at_s, self._now_s() + OVERTIME_S)

    def _obey(self) -> None:
        told, self._told[:] = list(self._told), []
        for sig in told:
            if sig == signal.SIGHUP:
                self._tell(RELOAD)
            elif self._stopping:
                self._tell(END_NOW)
                self._leave_s(OVERTIME_S)
            else:
                self._stopping = True
                # Or the kernel would go on taking connections that no worker fetches.
                self._listener.close()
                self._tell(STOP_ACCEPTING if sig == signal.SIGTERM else STOP)
                self._leave_s(self._drain_s + OVERTIME_S)

    def _leave_s(self, left_s: float) -> None:
        for slot in self._slots:
            slot.kill_at_s = self._now_s() + left_s

    def _tell(self, word: bytes) -> None:
        for slot in self._slots:
            if slot.link:
                # A worker that is gone, or that has not listened for a hundred words, misses nothing by this one.
                with suppress(OSError):
                    slot.link.send(word)

    def _reap(self) -> None:
        for slot in self._slots:
            overdue = self._now_s() >= slot.kill_at_s
            if not slot.pid or (slot.link and not overdue):
                continue
            if overdue:
                os.kill(slot.pid, signal.SIGKILL)
            pid, status = os.waitpid(slot.pid, 0 if overdue else os.WNOHANG)
            if pid:
                self._ended(slot, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: Slot, code: int) -> None:
        now_s = self._now_s()
        slot.pid = 0
        if slot.link:
            slot.link.close()
            slot.link = None
        if self._stopping:
            return
        if not self._proven:
            sys.exit(code if code >= 0 else 128 - code)
        delay_s = slot.delay_s(now_s)
        slot.due_s = now_s + delay_s
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        _log.warning("worker %d ended %s; another starts in %g s", slot.index, how, delay_s)

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Note signals and wake up for them; in a worker, which leaves by returning, all is as it was before."""
        wakeup, alarm = socket.socketpair()
        wakeup.settimeout(0.0)
        alarm.settimeout(0.0)

        def note(sig: int, _: FrameType | None) -> None:
            self._told.append(sig)

        before = {sig: signal.signal(sig, note) for sig in FORWARDED}
        signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
        try:
            yield wakeup
        finally:
            signal.set_wakeup_fd(-1)
            for sig, handler in before.items():
                signal.signal(sig, handler)
            wakeup.close()
            alarm.close()
