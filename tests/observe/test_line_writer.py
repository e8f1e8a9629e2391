"""Lines on their way out: whole, in order, and never waited for."""

import os
import threading

import pytest

from mana_llm.observe.lines import LineWriter

WAIT_S = 10.0
PIPE_BYTES = 65536


def notice(count: int) -> bytes:
    return b"%d lost\n" % count


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for end in (read, write):
        os.close(end)


def read_until(read: int, end: bytes) -> bytes:
    """Everything up to `end`, which must come."""
    found = b""
    while not found.endswith(end):
        found += os.read(read, 1 << 20)
    return found


def test_lines_are_written_when_they_are_put(pipe):
    """Everything that was put is written, in its order, and draining waits for it."""
    writer = LineWriter(pipe[1], notice)
    for number in range(100):
        writer.put(b"%d\n" % number)
    assert writer.drain(WAIT_S)
    assert os.read(pipe[0], PIPE_BYTES) == b"".join(b"%d\n" % number for number in range(100))
    assert writer.dropped == 0


def test_thread_does_not_exist_when_nothing_was_put(pipe):
    """A writer costs no thread until there is something to write, and draining it is nothing."""
    before = threading.active_count()
    assert LineWriter(pipe[1], notice).drain(0)
    assert threading.active_count() == before


def test_lines_are_dropped_and_counted_when_nobody_reads(pipe):
    """A full pipe and a full queue lose lines, never time; once it flows again, one line says how many."""
    writer = LineWriter(pipe[1], notice, bytes_max=1000)
    stuck = b"x" * PIPE_BYTES + b"\n"
    writer.put(stuck)
    for _ in range(50):
        writer.put(b"y" * 99 + b"\n")
    assert writer.dropped == 50
    assert not writer.drain(0)
    text = read_until(pipe[0], b" lost\n")
    assert text == stuck + b"50 lost\n"
    assert writer.drain(WAIT_S)
    writer.put(b"flows\n")
    assert read_until(pipe[0], b"flows\n") == b"flows\n"


def test_pieces_are_dropped_whole_when_there_is_no_room(pipe):
    """A piece of many lines counts as many, and no half line is ever written."""
    writer = LineWriter(pipe[1], notice, bytes_max=100)
    writer.put(b"x" * PIPE_BYTES + b"\n")
    writer.put(b"a\nb\nc\n" * 20, 60)
    assert writer.dropped == 60
    assert read_until(pipe[0], b" lost\n") == b"x" * PIPE_BYTES + b"\n60 lost\n"


def test_lines_are_counted_as_dropped_when_the_reader_is_gone():
    """A reader that went away loses lines and harms nobody."""
    read, write = os.pipe()
    os.close(read)
    writer = LineWriter(write, notice)
    writer.put(b"one\ntwo\n", 2)
    assert writer.drain(WAIT_S)
    assert writer.dropped == 2
    os.close(write)


def test_lines_are_written_when_the_file_is_non_blocking(pipe):
    """A pipe that somebody made non-blocking takes everything, once it is read."""
    os.set_blocking(pipe[1], False)
    writer = LineWriter(pipe[1], notice)
    writer.put(b"x" * (3 * PIPE_BYTES) + b"\n")
    assert len(read_until(pipe[0], b"\n")) == 3 * PIPE_BYTES + 1
    assert writer.drain(WAIT_S)
    assert writer.dropped == 0
