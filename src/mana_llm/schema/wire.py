"""What crosses a socket, as values: where a call goes, what it carries, how long it may take, what came back."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

Headers = list[tuple[bytes, bytes]]
"""Header fields in the order of the wire; names are lower-case."""

decode_envelope: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""One JSON object, its members left as bytes. Duplicate names: the last one wins, escaped spellings included."""

decode_envelopes: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
"""A JSON array of objects, the members of each left as bytes."""

decode_text: Final = msgspec.json.Decoder(str).decode
encode_json: Final = msgspec.json.Encoder().encode

NULL: Final = msgspec.Raw(b"null")


class JSONDecodeError(ValueError):
    """The bytes are not the JSON that was expected; the message never quotes them."""


def decoder_of(shape: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """A decoder for one shape, made once: msgspec works a shape out anew at every other call (5 µs for a union).

    What it returns raises JSONDecodeError as `decode_json` does.
    """
    decode = msgspec.json.Decoder(shape).decode

    def decode_shape(data: bytes | msgspec.Raw) -> Any:
        try:
            return decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise JSONDecodeError(json_problem(error)) from error

    return decode_shape


def decode_json(data: bytes | msgspec.Raw, shape: Any = Any) -> Any:
    """Decode `data` as `shape` (a type msgspec knows).

    Raises:
        JSONDecodeError: if it is not UTF-8, not JSON, nested too deep, or of another shape. msgspec raises
            RecursionError and UnicodeDecodeError beside its own class, so all are translated here, once.
    """
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise JSONDecodeError(json_problem(error)) from error


def json_problem(error: Exception) -> str:
    """Say what is wrong with a JSON text, without a byte of it (it may hold a prompt)."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 (byte {error.start})"
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    return str(error).removeprefix("JSON is malformed: ")


class Origin(msgspec.Struct, frozen=True):
    """Where connections go: scheme `http` or `https`, host (an IPv6 address without brackets), port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The Host header's value: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Endpoint(msgspec.Struct, frozen=True, eq=False):
    """One thing that can be asked of an origin; made once and used for many calls.

    `target` is path and query (`/v1/chat/completions`). `headers` are rendered lines, each ended by CRLF
    (`Authorization: Bearer ...`), without Host, Content-Length, Connection, Transfer-Encoding and
    Accept-Encoding, which belong to the upstream client.
    """

    origin: Origin
    method: str
    target: str
    headers: bytes = b""

    def __repr__(self) -> str:
        # Headers hold keys: they stay out of every traceback and log line.
        return f"<Endpoint {self.method} {self.origin}{self.target}>"


class Call(msgspec.Struct, frozen=True):
    """One request to a provider: the endpoint, the body (empty for GET), and what could not be carried.

    `ignored` names the request's fields that this provider's API has no place for.
    """

    endpoint: Endpoint
    body: bytes = b""
    ignored: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Call {self.endpoint!r} {len(self.body)} bytes>"


class Question(msgspec.Struct, frozen=True):
    """Something to know of a model before it is asked.

    The answer is believed for `fresh_s` seconds. `needed` says that without it only a guess is left, so that the
    answer is worth waiting for; what is not needed is asked for a moment only.
    """

    call: Call
    fresh_s: float
    needed: bool = True


class Limits(msgspec.Struct, frozen=True):
    """How long one call may take; seconds, each counted from its own beginning.

    `first_s` bounds the wait from sending until the caller says that content began (None: only `total_s` does);
    `idle_s` the silence between two pieces after the head of the answer has come; `total_s` everything,
    and `more_s` is what a call may take beyond that once content began.
    """

    connect_s: float
    first_s: float | None
    idle_s: float
    total_s: float
    more_s: float = 0.0
