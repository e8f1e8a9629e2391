"""Records of the logging module: their shape, and that they quote nobody."""

import asyncio
import json
import logging
import os
import pty

import pytest

from mana_llm.observe.lines import LineWriter
from mana_llm.observe.logs import LineHandler, stderr_lines

CANARY = "canary-5f1d"
WAIT_S = 10.0


@pytest.fixture
def written(tmp_path):
    """A logger, and what it has written to a file by the time that one asks."""
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    writer = stderr_lines(lambda: 0.0, file)
    log = logging.Logger("mana_llm.some")  # noqa: LOG001 - one that no other test shares
    log.addHandler(LineHandler(writer))

    def text() -> str:
        assert writer.drain(WAIT_S)
        return (tmp_path / "log").read_text(encoding="ascii")

    yield log, text
    os.close(file)


def fail_deeply() -> None:
    try:
        _ = {}[CANARY]
    except KeyError as error:
        raise ValueError(CANARY) from error


def test_record_is_one_json_line_when_it_is_no_terminal(written):
    """Time, level, logger and message, on one line whatever the message holds."""
    log, text = written
    log.warning("one\n%s\x1b[31m\u2028", "two")
    (line,) = text().splitlines()
    said = json.loads(line)
    assert said.pop("time").endswith("Z")
    assert said == {"level": "warning", "logger": "mana_llm.some", "message": "one\ntwo\x1b[31m\u2028"}


def test_traceback_has_places_and_no_words_when_an_error_is_logged(written):
    """An exception shows its class and where it came from, its causes too, and never what it says."""
    log, text = written
    try:
        fail_deeply()
    except ValueError:
        log.exception("request %s failed", "req-1")
    said = json.loads(text())
    assert said["exception"] == "ValueError"
    assert "in fail_deeply" in said["traceback"]
    assert "KeyError" in said["traceback"]
    assert CANARY not in text()


def test_system_error_says_what_it_is_when_it_is_logged(written):
    """An error of the system's keeps the system's own words: they tell an operator what to mend."""
    log, text = written
    try:
        os.open("/nowhere/at/all", os.O_RDONLY)
    except OSError:
        log.exception("no file")
    assert json.loads(text())["exception"] == "FileNotFoundError: No such file or directory"


def test_task_is_not_shown_when_its_error_was_never_fetched(written):
    """What asyncio says of a lost task's exception is its first line; the next would show the exception in full."""
    log, text = written
    log.name = "asyncio"

    async def lose() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        future.set_exception(ValueError(CANARY))
        message = "Future exception was never retrieved"
        loop.default_exception_handler({"message": message, "future": future, "exception": future.exception()})

    found = logging.getLogger("asyncio")
    found.addHandler(log.handlers[0])
    try:
        asyncio.run(lose())
    finally:
        found.removeHandler(log.handlers[0])
    (line,) = text().splitlines()
    assert json.loads(line)["message"] == "Future exception was never retrieved"
    assert CANARY not in line


def test_record_is_told_of_when_it_cannot_be_shown(written):
    """A record whose arguments do not fit is named by its place, without its arguments."""
    log, text = written
    log.warning("%d things", CANARY)
    said = json.loads(text())
    assert "cannot be shown: TypeError" in said["message"]
    assert CANARY not in text()


def test_record_is_readable_when_it_goes_to_a_terminal():
    """On a terminal a record is a line of text, and control characters in it are escaped."""
    ours, theirs = pty.openpty()
    try:
        writer = LineWriter(theirs, lambda _: b"")
        log = logging.Logger("mana_llm.some")  # noqa: LOG001 - one that no other test shares
        log.addHandler(LineHandler(writer))
        log.warning("it is %s", "\x1b[2Jgone\x9b")
        assert writer.drain(WAIT_S)
        assert os.read(ours, 4096).strip() == rb"WARNING mana_llm.some: it is \x1b[2Jgone\x9b"
    finally:
        os.close(ours)
        os.close(theirs)
