"""One message as it is parsed: a head, and the pieces of a body that were not read yet. No I/O.

Callbacks never raise: a failure is noted, and whoever feeds the message settles it after the segment.
"""

import httptools

from mana_llm.schema.errors import ProviderError, ProviderProtocolError
from mana_llm.schema.wire import Headers
from mana_llm.upstream.decode import BodyDecoder, open_decoder

# Neither uvicorn nor llhttp caps a head; these are the upper end of common servers' own bounds (8 to 64 KiB).
_HEAD_BYTES_MAX = 65_536
_HEADER_LINES_MAX = 256
_INTERIM_MAX = 8
# Each piece counts with the weight of its object, so that a flood of tiny chunks cannot hold fifty times what it
# says.
_PIECE_BYTES = 48


class Message:
    """Parses one answer; the `on_...` methods are what httptools calls.

    `head` and `complete` say how far it is, `keep` whether the connection can carry another, `delimited` whether
    the body has an end of its own, `size` what lies unread. With `dropping` the body is not kept any more.
    """

    __slots__ = (
        "_barren",
        "_given",
        "_interim",
        "_parser",
        "_pieces",
        "complete",
        "decoder",
        "delimited",
        "dropping",
        "failure",
        "head",
        "head_bytes",
        "headers",
        "keep",
        "media_type",
        "on_header",
        "origin",
        "size",
        "status",
    )

    def __init__(self, origin: object) -> None:
        self.origin = origin
        self.status = 0
        self.headers: Headers = []
        self.size = self.head_bytes = self._barren = self._interim = 0
        self.head = self.complete = self.keep = self.delimited = self.dropping = False
        self.failure: ProviderError | None = None
        self.decoder: BodyDecoder | None = None
        self.media_type = b""
        self._pieces: list[bytes] = []
        # Fields as they come, the last of a name: what httptools calls for each is no function of ours, since ten of
        # those take 2 us.
        self._given: dict[bytes, bytes] = {}
        self.on_header = self._given.__setitem__
        # A parser of its own: a trailer that ends a chunked body stays in httptools' parser and would be delivered
        # among the headers of the next answer.
        self._parser = httptools.HttpResponseParser(self)

    def parse(self, data: bytes) -> None:
        """Take a segment; `failure` and `complete` say what came of it."""
        size = self.size
        if not self.head:
            self.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._note_malformed(error)
        if not self.head:
            if self.head_bytes > _HEAD_BYTES_MAX:
                self.note(f"sent a head of more than {_HEAD_BYTES_MAX} bytes.")
        elif self.size != size:
            self._barren = 0
        else:
            # Trailers and chunk extensions are dropped, so nothing but this would bound them.
            self._barren += len(data)
            if self._barren > _HEAD_BYTES_MAX:
                self.note(f"sent more than {_HEAD_BYTES_MAX} bytes of trailers or chunk extensions.")

    def take(self) -> bytes:
        """Every byte of the body that was not read yet, as it came."""
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.drop()
        return data

    def take_some(self, bytes_max: int) -> bytes:
        """As `take`, but no more pieces than it needs to reach `bytes_max` with their weight; the rest stays."""
        if self.size <= bytes_max:
            return self.take()
        size = count = 0
        while size < bytes_max:
            size += len(self._pieces[count]) + _PIECE_BYTES
            count += 1
        data = b"".join(self._pieces[:count])
        del self._pieces[:count]
        self.size -= size
        return data

    def drop(self) -> None:
        """Forget what was not read."""
        self._pieces.clear()
        self.size = 0

    def note(self, what: str, cause: Exception | None = None) -> None:
        """Note what the origin did wrong; the first failure stands."""
        if self.failure is None:
            self.failure = ProviderProtocolError(f"{self.origin} {what}")
            self.failure.__cause__ = cause

    def end_parsing(self) -> None:
        """Let go of the parser. It holds our methods: without this, every message would be a reference cycle."""
        del self._parser

    def on_message_begin(self) -> None:
        """Notice a second answer in the same segment: this one stands, the connection does not."""
        if self.complete:
            self.keep = False

    def on_headers_complete(self) -> None:
        """Judge the head; 1xx is skipped."""
        if self.head:
            return
        self.headers = headers = [(name.lower(), value) for name, value in self._given.items()]
        if self.head_bytes > _HEAD_BYTES_MAX or len(headers) > _HEADER_LINES_MAX:
            self._measure_head()
        self.status = status = self._parser.get_status_code()
        fields = dict(headers)
        coding = fields.get(b"transfer-encoding")
        self.delimited = coding is not None or b"content-length" in fields
        if status < 200 or status in (204, 304) or (coding is not None and coding.lower() != b"chunked"):
            self._judge_odd_head(status)
            return
        if b"content-encoding" in fields:
            self._open_decoder(fields[b"content-encoding"])
        media_type = fields.get(b"content-type")
        if media_type is not None:
            self.media_type = media_type.partition(b";")[0].strip().lower()
        # A head that cannot be used counts as none, so that `send` fails and not a later `read`.
        self.head = self.failure is None

    def on_body(self, body: bytes) -> None:
        """Keep a piece, unless nobody will read it."""
        if not self.complete:
            self.size += len(body) + _PIECE_BYTES
            if not self.dropping:
                self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Note the end; the segment may hold more than it should, so nothing is released yet."""
        if self.head and not self.complete:
            self.complete = True
            self.keep = self._parser.should_keep_alive()

    def _note_malformed(self, error: httptools.HttpParserError) -> None:
        if self.complete:
            # What follows a complete answer belongs to nobody; the answer stands.
            self.keep = False
        else:
            self.note(f"did not answer in HTTP/1.1 ({error}).", error)

    def _measure_head(self) -> None:
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > _HEAD_BYTES_MAX or len(self.headers) > _HEADER_LINES_MAX:
            self.note(f"sent a head of more than {_HEAD_BYTES_MAX} bytes or {_HEADER_LINES_MAX} lines.")

    def _judge_odd_head(self, status: int) -> None:
        if status in (204, 304):
            # Neither has a body (RFC 9110 sections 15.3.5 and 15.4.5), whatever its headers say; llhttp would
            # wait for one.
            self.head = True
            self.complete = self.delimited
        elif status >= 200:
            self.note("sent a transfer coding other than chunked.")
        elif status == 101 or self.delimited:
            self.note(f"sent a {status} that cannot be skipped.")
        else:
            self._interim += 1
            self._given.clear()
            if self._interim > _INTERIM_MAX:
                self.note(f"sent more than {_INTERIM_MAX} interim answers.")

    def _open_decoder(self, encoding: bytes) -> None:
        try:
            self.decoder = open_decoder(encoding, self.origin)
        except ProviderProtocolError as error:
            self.failure = error
