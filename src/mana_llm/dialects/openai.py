"""OpenAI's API, as clients speak it: chat completions here, embeddings in `openai_embeddings`.

Source: OpenAI's OpenAPI description 2.3.0 and the openai-python 3.x types.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from mana_llm.dialects.openai_embeddings import read_embeddings, write_embeddings
from mana_llm.dialects.openai_stream import NO_ID, ChatStream, drop_foreign_tier
from mana_llm.schema.chat import ChatCompletion, ChatRequest, Identity
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import NULL, JSONDecodeError, decode_envelope, decoder_of, encode_json, json_problem

MODEL_CHARS_MAX: Final = 512
"""Names are remembered and go into headers."""
MEMBERS_FREE_BYTES: Final = 256 * 1024
MEMBERS_MAX: Final = 40_000
"""Top-level members cost 0.3 µs and 60 bytes each to decode: this many, or a body of so many bytes, 12 ms."""
SEARCHES_MAX: Final = 64

_DOES_NOT_STREAM: Final = (None, NULL, msgspec.Raw(b"false"))


class Bulk(msgspec.Struct):
    """The members that may rightly be large."""

    messages: msgspec.Raw = NULL
    tools: msgspec.Raw = NULL
    input: msgspec.Raw = NULL


class StreamOptions(msgspec.Struct):
    """The member of `stream_options` that the gateway reads."""

    include_usage: bool | None = None


_flag: Final = decoder_of(bool | None)
_bulk: Final = decoder_of(Bulk)
_name: Final = decoder_of(str | None)
_stream_options: Final = decoder_of(StreamOptions | None)


class OpenAI:
    """The dialect; has no state."""

    def decode_chat(self, body: bytes) -> ChatRequest:
        """Read what routing needs; everything else stays as bytes.

        Raises:
            RequestError: 400 with the place in `param` and what to do in the message.
        """
        fields = _envelope(body)
        _check_messages(fields.get("messages"))
        model = _read(fields, "model", _name) or ""
        if len(model) > MODEL_CHARS_MAX:
            message = f"`model` is longer than {MODEL_CHARS_MAX} characters."
            raise RequestError(message, code="string_above_max_length", param="model")
        stream = fields.get("stream") not in _DOES_NOT_STREAM and _read(fields, "stream", _flag) is True
        return ChatRequest(
            fields=fields,
            model=model,
            stream=stream,
            include_usage=_include_usage(fields, stream=stream),
        )

    def encode_chat(self, completion: ChatCompletion, resolved: str, identity: Identity) -> bytes:
        """The whole answer, naming the model that gave it."""
        fields = completion.fields
        fields["model"] = resolved
        if fields.get("id") in NO_ID:
            fields["id"] = identity.id
        if fields.get("created") in (None, NULL):
            fields["created"] = identity.created
        fields.setdefault("object", "chat.completion")
        if "service_tier" in fields:
            drop_foreign_tier(fields)
        return encode_json(fields)

    def open_stream(self, request: ChatRequest, resolved: str, identity: Identity) -> ChatStream:
        """An encoder for one streamed answer."""
        return ChatStream(resolved, identity, include_usage=request.include_usage)

    def decode_embeddings(self, body: bytes) -> EmbeddingsRequest:
        """Read a request for embeddings. Raises RequestError 400 where it cannot be one."""
        return read_embeddings(_envelope(body))

    def encode_embeddings(self, embeddings: Embeddings, resolved: str) -> bytes:
        """The vectors, naming the model that gave them."""
        return write_embeddings(embeddings, resolved)


def _envelope(body: bytes) -> dict[str, msgspec.Raw]:
    if len(body) > MEMBERS_FREE_BYTES:
        _check_bulk(body)
    try:
        if not body.isascii():
            # Raw members are not checked to be UTF-8, and what is not must not reach a provider.
            body.decode()
        return decode_envelope(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise RequestError("The request body must be a JSON object.") from error
        problem = json_problem(error)
        raise RequestError(f"The request body is not valid JSON: {problem}.", code="invalid_json") from error


def _check_bulk(body: bytes) -> None:
    """Raises RequestError 413 for a body of more members than the decoder should take the event loop's time for.

    Whoever has more colons than allowed members, few have, pays for a closer look: those in the bulky members may
    be text, and these are skipped by the decoder in one go.
    """
    end = body.find(b":")
    for _ in range(SEARCHES_MAX):
        if end < 0:
            # The usual large body is an image: a few colons, and megabytes that one search runs through.
            return
        end = body.find(b":", end + 1)
    colons = body.count(b":", end)
    if colons <= MEMBERS_MAX:
        return
    try:
        bulk = _bulk(body)
    except JSONDecodeError as error:
        raise RequestError(f"The request body is not valid JSON: {error}.", code="invalid_json") from error
    if colons - sum(bytes(raw).count(b":") for raw in (bulk.messages, bulk.tools, bulk.input)) > MEMBERS_MAX:
        message = f"The request has more than {MEMBERS_MAX} members beside `messages`, `tools` and `input`."
        raise RequestError(message, status=413, code="too_many_members")


def _check_messages(messages: msgspec.Raw | None) -> None:
    if messages is None or messages == NULL:
        raise RequestError("`messages` is required: a list of messages.", code="missing", param="messages")
    text = memoryview(messages)
    if bytes(text[:1]) != b"[":
        raise RequestError("`messages` must be a list of messages.", code="invalid_type", param="messages")
    if bytes(text[1:64]).lstrip()[:1] == b"]":
        raise RequestError("`messages` is empty; send at least one message.", code="empty_array", param="messages")


def _read(fields: dict[str, msgspec.Raw], name: str, decode: Callable[[msgspec.Raw], Any]) -> Any:
    """One member, decoded; None if it is absent."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decode(raw)
    except JSONDecodeError as error:
        raise RequestError(f"`{name}` cannot be used: {error}.", code="invalid_type", param=name) from error


def _include_usage(fields: dict[str, msgspec.Raw], *, stream: bool) -> bool:
    options = _read(fields, "stream_options", _stream_options)
    if options is None:
        return False
    if not stream:
        # OpenAI refuses this too; passing it on would be a different error from every provider.
        raise RequestError("`stream_options` is only allowed when `stream` is true.", param="stream_options")
    return bool(options.include_usage)
