"""Event streams and JSON lines: a second, plain reading of the standard says the same, wherever bytes are split."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.kit.framing import FrameTooLargeError, LineDecoder, SSEDecoder

STREAMS = 10_000
ENDS = (b"\n", b"\r\n", b"\r")
WORDS = (b"data", b"data:", b"data: ", b"data:  two", b"data: a", b"data: :b", b"event: x", b"id: 1", b"retry: 5", b"",
         b"", b"", b":", b": comment", b"datax: no", b" data: no", b"data : no", b"Data: no", b"data: \xc3\xa9",
         b"data: \xf0\x9f\x98\x80", b"\xef\xbb\xbfdata: late", b"data: [DONE]", b"nothing", b"data:\tx", b"data: \0",
         b"data: \xe2\x80\xa8", b"data: \x0b\x0c\x85")  # fmt: skip


def reference(stream: bytes) -> tuple[list[bytes], list[bytes]]:
    """The data of each event, as WHATWG HTML 9.2.6 has it, and of the one that the end cuts off (which the
    standard drops): line by line, field by field, as plainly as can be.
    """
    text = stream.removeprefix(b"\xef\xbb\xbf")
    *lines, rest = re.split(rb"\r\n|\n|\r", text)
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        else:
            data += fields(line)
    data += fields(rest)
    return events, [b"\n".join(data)] if data else []


def fields(line: bytes) -> list[bytes]:
    """The value of one line if its field is data."""
    if line.startswith(b":"):
        return []
    name, _, value = line.partition(b":")
    return [value.removeprefix(b" ")] if name == b"data" else []


def decoded(pieces) -> tuple[list[bytes], list[bytes]]:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events, decoder.flush()


def made_up(chance: random.Random) -> bytes:
    """A stream of lines, right and wrong, with any line ends."""
    mark = b"\xef\xbb\xbf" * chance.choice((0, 0, 0, 1, 2))
    return mark + b"".join(chance.choice(WORDS) + chance.choice(ENDS) for _ in range(chance.randrange(12)))


def cut(stream: bytes, chance: random.Random) -> list[bytes]:
    """The stream in pieces, some of them empty."""
    places = sorted(chance.choices(range(len(stream) + 1), k=chance.randrange(6)))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


def agree(count: int) -> None:
    chance = random.Random(20261121)
    for _ in range(count):
        stream = made_up(chance)
        assert decoded(cut(stream, chance)) == reference(stream), stream


def test_parser_agrees_with_the_standard_when_streams_are_made_up():
    """R54 (10,000 of 1,000,000): on generated streams, split anywhere, our parser says what the standard says."""
    agree(STREAMS)


@pytest.mark.long
def test_parser_agrees_with_the_standard_when_a_million_streams_are_made_up():
    """R54 (1,000,000 of 1,000,000): on generated streams, split anywhere, our parser says what the standard says."""
    agree(1_000_000)


@given(st.lists(st.sampled_from([*WORDS, b"\n", b"\r", b"\r\n", b"\xef", b"\xbb", b"\xbf"])).map(b"".join), st.data())
def test_parser_agrees_with_the_standard_when_bytes_are_any(stream, data):
    """Line ends in odd places, halves of a byte order mark: the same, in one piece or in two."""
    at = data.draw(st.integers(0, len(stream)))
    assert decoded([stream]) == reference(stream)
    assert decoded([stream[:at], stream[at:]]) == reference(stream)


@given(st.binary(max_size=60))
def test_split_changes_nothing_when_bytes_are_any(stream):
    """Any bytes, one by one, are what they are whole."""
    assert decoded([stream[at : at + 1] for at in range(len(stream))]) == decoded([stream]) == reference(stream)


def lines_of(pieces) -> list[bytes]:
    decoder = LineDecoder()
    return [line for piece in pieces for line in decoder.feed(piece)] + decoder.flush()


@given(
    st.lists(st.sampled_from([b'{"a":1}', b" ", b"", b"\n", b"\r\n", b"\xc3", b"\xa9", b"x"])).map(b"".join), st.data()
)
def test_lines_are_the_same_when_they_are_split_anywhere(stream, data):
    """JSON lines: what lies between line feeds, blank ones left out, wherever the bytes were split."""
    at = data.draw(st.integers(0, len(stream)))
    expected = [line for line in stream.split(b"\n") if line.strip()]
    assert lines_of([stream]) == expected
    assert lines_of([stream[:at], stream[at:]]) == expected
    assert lines_of([stream[at : at + 1] for at in range(len(stream))]) == expected


def feed(decoder, data: bytes, size: int) -> list[bytes]:
    """What comes of `data` in pieces of this size."""
    return [event for at in range(0, len(data), size) for event in decoder.feed(data[at : at + size])]


@pytest.mark.parametrize("decoder", [SSEDecoder, LineDecoder])
@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_frame_is_refused_when_it_outgrows_its_limit(decoder, size):
    """A frame of the limit passes, a longer one raises, however it comes in (half an end may be counted)."""
    end = b"\n\n" if decoder is SSEDecoder else b"\n"
    frame = b"data: " + b"x" * 94
    whole = frame + end
    fine = decoder(100 + len(end) - 1)
    assert len(feed(fine, whole, size)) == 1
    tight = decoder(99)
    with pytest.raises(FrameTooLargeError):
        feed(tight, frame, size)


@pytest.mark.parametrize(
    "pieces", [(b"data: a\r", b"\n", b"\n"), (b"data: a\r", b"", b"\n\r\n"), (b"data: a\r", b"\r")]
)
def test_blank_line_ends_an_event_when_line_ends_are_split(pieces):
    """A CR at the end of a piece swallows one LF and no second, and an empty piece changes nothing."""
    assert decoded(pieces) == ([b"a"], [])


def test_limit_is_one_events_when_many_come_at_once():
    """The limit is a single frame's: a large piece of small events passes."""
    assert len(SSEDecoder(20).feed(b"data: x\n\n" * 1000)) == 1000


def test_long_line_costs_its_length_when_it_comes_byte_by_byte():
    """A megabyte in tiny pieces is searched once, not again with every piece."""
    decoder = LineDecoder()
    for _ in range(100_000):
        assert decoder.feed(b"0123456789") == []
    assert len(decoder.feed(b"\n")[0]) == 1_000_000
