"""The pieces of an answer's body, and how they are handed over."""

from hypothesis import given
from hypothesis import strategies as st

from mana_llm.upstream.message import Message

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@given(st.lists(st.integers(1, 5000), max_size=400), st.integers(1, 70_000))
def test_body_is_whole_when_it_is_taken_in_turns(sizes, bytes_max):
    """Taken in turns of any size, tiny chunks or large, the body is what came, and then nothing is left."""
    message = Message("here")
    pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    message.parse(HEAD)
    for piece in pieces:
        message.parse(b"%x\r\n%b\r\n" % (len(piece), piece))
    taken = []
    while message.size:
        taken.append(message.take_some(bytes_max))
        assert taken[-1]
    assert b"".join(taken) == b"".join(pieces)
