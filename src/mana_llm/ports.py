"""The plugs: what the brain and the edge need of the floors that they must not know by name."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from mana_llm.schema.chat import ChatChunk, ChatCompletion, ChatRequest, Fetched, Identity
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import GatewayError, ProviderError
from mana_llm.schema.events import Exchange
from mana_llm.schema.models import Model
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import Call, Headers, Limits, Question


class Clock(Protocol):
    """Time, injected. `now_s` never goes backwards and means nothing by itself; `wall_s` is Unix time."""

    def now_s(self) -> float: ...

    def wall_s(self) -> float: ...


class Observer(Protocol):
    """Sees everything that happens and holds up nothing."""

    def attempt_ended(self, target: Target, status: str) -> None:
        """A provider was really asked; `status` is `ok`, an error's class name, or `cancelled`."""
        ...

    def stream_broke(self, target: Target, reason: str) -> None:
        """An answer that had begun did not end well."""
        ...

    def fallback(self, from_model: str, to_model: str, reason: str) -> None:
        """The walk went from one entry to the next."""
        ...

    def hedge_ended(self, result: str) -> None:
        """A second entry was asked because the first was slow; `won` says that its answer was taken, else `lost`."""
        ...

    def config_reloaded(self, result: str) -> None:
        """The aliases were read again: `ok`, `rejected` (and nothing changed), or `unchanged`."""
        ...

    def request_began(self) -> None: ...

    def request_ended(self, exchange: Exchange) -> None:
        """A client's request is over, however it ended."""
        ...


class UpstreamResponse(Protocol):
    """An answer whose head has come. Whoever holds it must close it; closing twice is nothing."""

    status: int
    headers: Headers
    """Field names are lower-case; of fields that came more than once the last."""
    media_type: bytes
    """`application/json` of `Content-Type: application/json; charset=utf-8`; b"" if nothing was said."""
    connect_s: float
    """Seconds spent on getting a connection; 0.0 on one that was open already."""

    async def read(self) -> bytes:
        """Every body byte that has come since the last read, at least one; b"" once the body is complete.

        Raises:
            ProviderTimeoutError: if a limit ran out.
            ProviderProtocolError: if the connection broke or the body is malformed.
        """
        ...

    async def read_all(self, bytes_max: int) -> bytes:
        """The rest of the body. Raises as `read`, and ProviderProtocolError beyond `bytes_max`."""
        ...

    def content_began(self) -> None:
        """End the wait for the first token: from now on only silence and the total are limited."""
        ...

    def finish(self) -> None:
        """Say that the answer is whole: the end of the body may still come for a moment, so that the connection
        can be used again; if it does not, the connection is cut.
        """
        ...

    def close(self) -> None:
        """Give the connection back if the body is complete, else cut it, so that the upstream stops working."""
        ...


class Transport(Protocol):
    """Carries calls to upstreams."""

    async def send(self, call: Call, limits: Limits) -> UpstreamResponse:
        """Send `call` and wait for the head of its answer.

        Raises:
            ProviderConnectError: if no connection came about.
            ProviderTimeoutError: if a limit ran out.
            ProviderProtocolError: if what came is not HTTP, or the connection broke.
        """
        ...

    async def close(self) -> None:
        """Cut every connection."""
        ...


class ChatStreamDecoder(Protocol):
    """One streamed answer being decoded; pure. Split the bytes anywhere: the chunks are the same.

    `failure` is what went wrong, set after the last good chunk was returned, so that nothing before it is lost:
    an error in the stream, bytes that are not what they should be, an end without a finish. `done` says that the
    answer is whole (its end marker was seen). After either, feed no more.
    """

    failure: ProviderError | None
    done: bool

    def feed(self, data: bytes) -> list[ChatChunk]:
        """The chunks that `data` completes, in order."""
        ...

    def end(self) -> list[ChatChunk]:
        """What is left when the body is complete; sets `failure` if the answer was cut short."""
        ...


class Provider(Protocol):
    """One API that we call: encodes requests and decodes answers; pure."""

    name: str
    plain_type: bytes
    stream_type: bytes
    """The media types of a whole and of a streamed answer, lower-case, without parameters."""

    def encode_chat(self, request: ChatRequest, model: str) -> Call:
        """The call that asks `model` for `request`.

        Raises:
            ProviderCapabilityError: if the API cannot carry something that changes the meaning.
        """
        ...

    def questions(self, request: ChatRequest, model: str) -> Sequence[Question]:
        """What is to be known of `model` before it is asked for `request`, mostly nothing. Answers are cached."""
        ...

    def judge(self, request: ChatRequest, model: str, facts: Sequence[bytes | None]) -> None:
        """Judge by the answers to `questions`, in their order, None where there was none.

        Raises:
            ProviderCapabilityError: if the model cannot do what the request needs.
        """
        ...

    def urls_to_fetch(self, request: ChatRequest) -> tuple[str, ...]:
        """The http(s) URLs of parts that this API cannot fetch itself; they come back in `request.fetched`."""
        ...

    def decode_chat(self, body: bytes, request: ChatRequest) -> ChatCompletion:
        """The whole answer. Raises the ProviderError that it says or is."""
        ...

    def open_stream(self, request: ChatRequest, model: str = "") -> ChatStreamDecoder:
        """A decoder for the streamed answer of `model` to `request`."""
        ...

    def encode_embeddings(self, request: EmbeddingsRequest, model: str) -> list[Call]:
        """The calls that embed the inputs, in their order, each within the provider's limits.

        Raises:
            ProviderCapabilityError: if the API cannot embed what was given.
        """
        ...

    def decode_embeddings(self, bodies: list[bytes], request: EmbeddingsRequest) -> Embeddings:
        """The answers to those calls as one. Raises the ProviderError that they say or are."""
        ...

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        """Classify an answer that is not the one hoped for (any status; 200 with a wrong type included)."""
        ...

    def encode_models(self) -> Call: ...

    def decode_models(self, body: bytes) -> list[Model]: ...


class ProviderEntry(msgspec.Struct):
    """A provider as this installation knows it.

    `provider` is None where it is not configured; `hint` then says what would configure it. `first_s` bounds the
    wait for a stream's first token. `default_model` is what the provider's name alone means ("" if nothing).
    `max_concurrent` is how many requests it is given at once, 0 where there is no limit.
    """

    name: str
    provider: Provider | None
    first_s: float
    default_model: str = ""
    hint: str = ""
    max_concurrent: int = 0


class ChatStreamEncoder(Protocol):
    """One streamed answer being written in a dialect; pure."""

    media_type: bytes

    def keep_alive(self) -> bytes:
        """An event without content, for a client that waits; from now on the stream's identity is the gateway's."""
        ...

    def answered_by(self, model: str) -> None:
        """Name the model that gives the answer, after it was named otherwise in keep-alives."""
        ...

    def encode(self, chunks: Sequence[ChatChunk]) -> bytes:
        """The chunks as events; b"" if none of them says anything to the client."""
        ...

    def end(self) -> bytes:
        """The end of a whole answer."""
        ...

    def fail(self, error: GatewayError) -> bytes:
        """The end of an answer that broke: one event that says so, and the end marker."""
        ...


class Fetcher(Protocol):
    """Fetches parts that a request names by URL; refuses what it must not touch."""

    async def fetch(self, urls: Sequence[str], left_s: float) -> dict[str, Fetched]:
        """The content of every one of `urls`, within what the fetcher allows, and at most `left_s`.

        Raises:
            RequestError: 400 if a URL is not allowed, too large, not an image, or does not answer.
            ProviderTimeoutError: if it was `left_s` that ran out; no provider's health learns of it.
        """
        ...


class Dialect(Protocol):
    """One API that clients speak: decodes requests and encodes answers; pure."""

    def decode_chat(self, body: bytes) -> ChatRequest:
        """Raises RequestError where the body cannot be a chat request."""
        ...

    def encode_chat(self, completion: ChatCompletion, resolved: str, identity: Identity) -> bytes: ...

    def open_stream(self, request: ChatRequest, resolved: str, identity: Identity) -> ChatStreamEncoder:
        """An encoder for the streamed answer to `request`, named `resolved`."""
        ...

    def decode_embeddings(self, body: bytes) -> EmbeddingsRequest:
        """Raises RequestError where the body cannot be a request for embeddings."""
        ...

    def encode_embeddings(self, embeddings: Embeddings, resolved: str) -> bytes: ...
