"""Log lines for what an operator should know of without looking at metrics; no prompt text, no keys.

Records of the logging module leave through the same bounded queue as the access log, so that the loop never waits for
whoever reads them. An exception is shown by its class and where it was raised: what it says may quote a request, or a
provider that quotes it.
"""

import contextlib
import json
import logging
import os
import select
import traceback
from collections.abc import Callable, Iterator
from typing import Final

from mana_llm.observe.lines import LineWriter
from mana_llm.observe.words import iso_time

FRAMES_MAX: Final = 40
CAUSES_MAX: Final = 8
STDERR: Final = 2

_log: Final = logging.getLogger("mana_llm.health")


def log_transition(provider: str, healthy: bool) -> None:  # noqa: FBT001 - a health listener's shape
    """A provider was taken out, or is back."""
    if healthy:
        _log.info("%s is back", provider)
    else:
        _log.warning("%s rests after failures; GET /v1/health says more", provider)


def stderr_lines(wall_s: Callable[[], float], fd: int = STDERR) -> LineWriter:
    """The writer of standard error; costs nothing until it has something to write."""

    def notice(count: int) -> bytes:
        created = wall_s()
        message = f"{count} log lines were dropped: nobody read them in time"
        record = logging.makeLogRecord(
            {"name": "mana_llm.log", "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
        )
        record.created = created
        return formatter(writer).format(record).encode() + b"\n"

    writer = LineWriter(fd, notice)
    return writer


def formatter(writer: LineWriter) -> logging.Formatter:
    """How records look where `writer` leads: text on a terminal, else JSON."""
    return PlainFormatter() if writer.is_terminal else JSONFormatter()


class LineHandler(logging.Handler):
    """Hands every record to `writer`, as one piece."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter(writer))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 - a record that cannot be shown is no reason to fail
            # logging's own way would print the record's arguments, whatever they hold.
            broken = logging.makeLogRecord({"name": record.name, "levelname": "ERROR", "levelno": logging.ERROR})
            broken.msg = f"a record of {record.module} line {record.lineno} cannot be shown: {type(error).__name__}"
            text = self.format(broken)
        self._writer.put(text.encode("utf-8", "backslashreplace") + b"\n")


class DirectHandler(logging.Handler):
    """Writes every record itself, for a process that must have no threads because it forks.

    It waits for nobody: a line that is not taken at once is lost.
    """

    def __init__(self, fd: int = STDERR) -> None:
        super().__init__()
        self._fd = fd
        self.setFormatter(PlainFormatter() if os.isatty(fd) else JSONFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        # So much and no more goes into a pipe that is ready without waiting.
        if len(line) <= select.PIPE_BUF:
            with contextlib.suppress(OSError):
                if select.select([], [self._fd], [], 0)[1]:
                    os.write(self._fd, line)


class JSONFormatter(logging.Formatter):
    """One JSON object: time, level, logger, message; exception and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": iso_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record),
        }
        error = _error_of(record)
        if error:
            said["exception"] = _class_of(error)
            said["traceback"] = "\n".join(traced(error))
        return json.dumps(said, separators=(",", ":"))


class PlainFormatter(logging.Formatter):
    """`WARNING mana_llm.health: lab rests`, and a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        message = message_of(record)
        if not message.isprintable():
            message = ascii(message)[1:-1]
        error = _error_of(record)
        return "\n".join((f"{record.levelname} {record.name}: {message}", *(traced(error) if error else ())))


def message_of(record: logging.LogRecord) -> str:
    """What a record says; of asyncio's the first line, as the others show exceptions in full."""
    message = record.getMessage()
    return message.partition("\n")[0] if record.name == "asyncio" else message


def traced(error: BaseException) -> Iterator[str]:
    """Lines that say where `error` was raised and why, each cause before what it led to."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain and len(chain) < CAUSES_MAX:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for each in reversed(chain):
        for frame in traceback.format_tb(each.__traceback__, -FRAMES_MAX):
            yield from frame.rstrip().split("\n")
        yield _class_of(each)


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _class_of(error: BaseException) -> str:
    """The class, and of the system's errors what the system calls it."""
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"{name}: {error.strerror}" if isinstance(error, OSError) and error.strerror else name
