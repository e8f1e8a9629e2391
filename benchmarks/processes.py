"""Child processes that are pinned, accounted for, and always ended."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from benchmarks.machine import tool

START_S: Final = 10.0
STOP_S: Final = 5.0
_POLL_S: Final = 0.001
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class ProcessError(Exception):
    """A child did not do what it was started for."""


class Process:
    """A child and everything it starts, in a session of its own, on one core. What it says goes to a file.

    A `core` of None leaves it where the system puts it.
    """

    def __init__(self, command: Sequence[str], core: int | None, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self.began_at = time.monotonic()
        pinned = [] if core is None else [tool("taskset"), "-c", str(core)]
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [*pinned, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=dict(environment),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The first process; its number is the session's too."""
        return self._child.pid

    def cpu_s(self) -> float:
        """Seconds of CPU, user and system, that all processes of this group have used."""
        # Fields 14 and 15 of proc(5), counted here from the state, which is field 3.
        return sum(int(fields[11]) + int(fields[12]) for fields in self._stats()) / _TICKS_PER_S

    def rss_mb(self) -> float:
        """Megabytes (10^6) of resident memory of all processes of this group."""
        return sum(int(fields[21]) for fields in self._stats()) * _PAGE_BYTES / 1e6

    def until_ready(self, port: int, path: str) -> float:
        """Ask until the answer is 200; the seconds since the process was started.

        Raises:
            ProcessError: if it ended, or did not answer in time; with the last lines that it said.
        """
        while time.monotonic() - self.began_at < START_S:
            if self._child.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                if get(port, path) == 200:
                    return time.monotonic() - self.began_at
            time.sleep(_POLL_S)
        said = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
        raise ProcessError(f"{self._log.stem} did not answer {path} within {START_S:g} s. It said:\n{said}")

    def until_ended(self) -> float:
        """Wait until it ends by itself; the seconds since it was started.

        Raises:
            ProcessError: if it did not end in time, or not well.
        """
        # `wait` with a limit looks only every 50 ms.
        while (code := self._child.poll()) is None and time.monotonic() - self.began_at < START_S:
            time.sleep(_POLL_S)
        if code != 0:
            raise ProcessError(f"{self._log.stem} ended with {code} (None: not within {START_S:g} s)")
        return time.monotonic() - self.began_at

    def stop(self) -> None:
        """End the session, by force if it does not go by itself."""
        self._signal(signal.SIGTERM)
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self._child.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)

    def _stats(self) -> Iterator[list[str]]:
        """The fields of /proc/PID/stat from the third on, of each process of the session."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # The second field, the name, may hold spaces and parentheses.
                fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if fields[3] == str(self._child.pid):
                    yield fields


def get(port: int, path: str) -> int:
    """The status of a GET on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
