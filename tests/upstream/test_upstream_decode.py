import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.upstream.decode import open_decoder
from tests.upstream.peer import LIMITS, fetch, idle, talking


def raw_deflate(data):
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


CODINGS = [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"deflate", raw_deflate)]


def answer(encoding, body):
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (encoding, len(body)) + body


def decode_all(encoding, pieces):
    decoder, out = open_decoder(encoding, "http://h"), []
    for piece in pieces:
        out.append(decoder.decode(piece))
        while decoder.pending:
            out.append(decoder.decode(b""))
    decoder.end()
    return out


@pytest.mark.parametrize(("encoding", "encode"), CODINGS)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_body_decodes_the_same_wherever_it_is_split(encoding, encode, data, at):
    """A compressed body decodes to what went in, split anywhere."""
    packed = encode(data)
    assert b"".join(decode_all(encoding, [packed[:at], packed[at:]])) == data


@pytest.mark.parametrize(("encoding", "encode"), CODINGS)
def test_body_is_cut_short_when_bytes_are_missing(encoding, encode):
    """A compressed body without its end is never taken for a whole one."""
    packed = encode(b"hello, hello, hello")
    for at in range(1, len(packed) - (8 if encoding == b"gzip" else 4)):
        with pytest.raises(ProviderProtocolError, match=r"cut short|damaged"):
            decode_all(encoding, [packed[:at]])


def test_gzip_members_are_joined_when_there_are_several():
    """Gzip allows members in a row; deflate has nothing behind its end."""
    assert b"".join(decode_all(b"gzip", [gzip.compress(b"a") + gzip.compress(b"b")])) == b"ab"
    with pytest.raises(ProviderProtocolError, match="after its end"):
        decode_all(b"deflate", [zlib.compress(b"a") + b"x"])


def test_pieces_are_bounded_when_the_body_expands():
    """Nothing is decoded far ahead of the reader: a piece has at most 256 KiB."""
    data = b"".join(b"%d," % number for number in range(500_000))
    pieces = decode_all(b"gzip", [gzip.compress(data)])
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 262_144


@pytest.mark.parametrize(("encoding", "encode"), CODINGS)
def test_bomb_is_a_protocol_error_when_read(run, encoding, encode):
    """A bomb of 100 MB is cut long before it is unpacked (R52)."""
    packed = encode(bytes(100_000_000))

    async def main():
        async with talking(answer(encoding, packed)) as (peer, upstream):
            with pytest.raises(ProviderProtocolError, match="too much"):
                await fetch(upstream, peer.call(), bytes_max=2**31)

    run(main)


def test_decoded_bytes_are_capped_when_the_ratio_is_modest():
    """No compressed body is worth more than 64 MiB (R52)."""
    packed = gzip.compress(bytes(65 * 2**20), 0)
    with pytest.raises(ProviderProtocolError, match="too much"):
        decode_all(b"gzip", [packed[at : at + 2**18] for at in range(0, len(packed), 2**18)])


@pytest.mark.parametrize(("encoding", "encode"), CODINGS)
def test_answer_is_decoded_when_it_came_compressed_anyway(run, encoding, encode):
    """A server that compresses unasked is understood, by read and by read_all, and its connection is kept."""

    async def main():
        data = b'{"a": 1}' * 1000
        async with talking(answer(encoding, encode(data))) as (peer, upstream):
            assert (await fetch(upstream, peer.call()))[1] == data
            response = await upstream.send(peer.call(), LIMITS)
            assert await response.read() == data
            assert await response.read() == b""
            assert idle(upstream) == 1

    run(main)


def test_answer_is_a_protocol_error_when_it_is_not_what_it_says(run):
    """Bytes that are not gzip fail as a damaged body."""

    async def main():
        async with talking(answer(b"gzip", b"not gzip")) as (peer, upstream):
            with pytest.raises(ProviderProtocolError, match="damaged"):
                await fetch(upstream, peer.call())

    run(main)


def test_identity_is_no_encoding_when_named():
    """`identity` and an empty value decode to themselves; whatever else is refused."""
    assert open_decoder(b" Identity ", "o") is None
    assert open_decoder(b"", "o") is None
    for encoding in (b"br", b"gzip, gzip", b"zstd"):
        with pytest.raises(ProviderProtocolError):
            open_decoder(encoding, "o")
