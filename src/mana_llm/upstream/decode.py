"""Bodies that came compressed although `identity` was asked for: decoded as they are read, within bounds."""

import zlib

from mana_llm.schema.errors import ProviderProtocolError

# A reader gets at most this much at once, and nothing is decoded before it is asked for.
_PIECE_BYTES_MAX = 262_144
# An LLM's answer is far below both; deflate can reach 1,032 to 1, text rarely exceeds 20. The ratio is judged only
# beyond the first MiB, because a short and repetitive answer may have any.
_DECODED_BYTES_MAX = 64 * 2**20
_RATIO_MAX = 200
_RATIO_FROM_BYTES = 2**20

_GZIP = 16 + zlib.MAX_WBITS


class BodyDecoder:
    """Decodes `gzip` or `deflate` (with or without zlib's header, since servers send both)."""

    __slots__ = ("_bytes_in", "_bytes_out", "_origin", "_stream", "_window", "pending")

    def __init__(self, window: int, origin: object) -> None:
        self._origin = origin
        self._window = window
        self._stream = zlib.decompressobj(window) if window == _GZIP else None
        self._bytes_in = 0
        self._bytes_out = 0
        self.pending = b""

    def decode(self, data: bytes) -> bytes:
        """What the pending bytes and `data` decode to, at most 256 KiB; the rest stays `pending`.

        Raises:
            ProviderProtocolError: if the bytes are not so encoded, or decode to too much.
        """
        self._bytes_in += len(data)
        data = self.pending + data
        out = b""
        while data and not out:
            out, data = self._step(data)
        self.pending = data
        self._bytes_out += len(out)
        if self._bytes_out > _DECODED_BYTES_MAX or (
            self._bytes_out > _RATIO_FROM_BYTES and self._bytes_out > self._bytes_in * _RATIO_MAX
        ):
            raise self._problem("decodes to too much")
        return out

    def end(self) -> None:
        """Check that the compressed stream is whole.

        Raises:
            ProviderProtocolError: if it was cut short.
        """
        if self._bytes_in and not (self._stream is not None and self._stream.eof):
            raise self._problem("is cut short")

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        stream = self._stream
        if stream is None or stream.eof:
            stream = self._stream = self._open(data)
        try:
            out = stream.decompress(data, _PIECE_BYTES_MAX)
        except zlib.error as error:
            raise self._problem("is damaged") from error
        return out, stream.unused_data if stream.eof else stream.unconsumed_tail

    def _open(self, data: bytes) -> "zlib._Decompress":
        if self._stream is not None and self._window != _GZIP:
            raise self._problem("goes on after its end")
        if self._window == _GZIP:
            return zlib.decompressobj(_GZIP)
        # RFC 9110 section 8.4.1.2: `deflate` has zlib's header (method 8 in the low nibble), though many omit it.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)

    def _problem(self, what: str) -> ProviderProtocolError:
        return ProviderProtocolError(f"The compressed body of {self._origin} {what}.")


def open_decoder(encoding: bytes, origin: object) -> BodyDecoder | None:
    """A decoder for the value of Content-Encoding; None where there is nothing to decode.

    Raises:
        ProviderProtocolError: for any other encoding than identity, gzip and deflate.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return None
    if name in (b"gzip", b"x-gzip"):
        return BodyDecoder(_GZIP, origin)
    if name == b"deflate":
        return BodyDecoder(zlib.MAX_WBITS, origin)
    raise ProviderProtocolError(
        f"{origin} sent an encoded body although none was asked for; gzip and deflate are understood."
    )
