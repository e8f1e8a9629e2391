"""Servers that speak OpenAI's API: one class for all, and what tells them apart is a row of `table.py`.

Both ends speak the same language here, so members that nobody needs to look at pass as they came.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mana_llm.providers.base_url import Base
from mana_llm.providers.compatible_failures import failure_in_body, failure_in_error
from mana_llm.providers.compatible_stream import CompatibleStream
from mana_llm.schema.chat import ChatCompletion, ChatRequest
from mana_llm.schema.errors import ProviderError, ProviderProtocolError
from mana_llm.schema.models import Model
from mana_llm.schema.usage import read_usage
from mana_llm.schema.wire import (
    NULL,
    Call,
    Endpoint,
    Headers,
    JSONDecodeError,
    decode_envelope,
    decode_envelopes,
    decode_json,
    encode_json,
    json_problem,
)

_ASK_USAGE: Final = msgspec.Raw(b'{"include_usage":true}')


class Quirks(msgspec.Struct, frozen=True):
    """Where a server differs from OpenAI.

    `finish_reasons` maps its own words to OpenAI's. `asks_usage` is False where `stream_options` is refused.
    """

    finish_reasons: Mapping[str, str] = {}
    asks_usage: bool = True


class ListedModel(msgspec.Struct):
    """A row of a models list: OpenAI's members, and the names that other servers use for the context's length."""

    id: str
    created: int | float | None = None
    context_window: int | None = None
    context_length: int | None = None
    max_model_len: int | None = None
    max_context_length: int | None = None


class Compatible:
    """An OpenAI-compatible server at `base`, asked with `key` ("" sends none)."""

    plain_type = b"application/json"
    stream_type = b"text/event-stream"

    def __init__(self, name: str, base: Base, key: str, quirks: Quirks) -> None:
        self.name = name
        self._quirks = quirks
        authorization = f"Authorization: Bearer {key}\r\n".encode() if key else b""
        posting = b"Content-Type: application/json\r\n" + authorization
        self._chat = Endpoint(base.origin, "POST", f"{base.prefix}/chat/completions", posting)
        self._models = Endpoint(base.origin, "GET", f"{base.prefix}/models", authorization)

    def encode_chat(self, request: ChatRequest, model: str) -> Call:
        """The client's own members with the model's name replaced; streams always ask for their usage."""
        fields = {**request.fields, "model": model}
        if request.stream and self._quirks.asks_usage:
            fields["stream_options"] = _with_usage(request)
        return Call(self._chat, encode_json(fields))

    def decode_chat(self, body: bytes) -> ChatCompletion:
        """A whole answer.

        Raises:
            ProviderError: for an error in a 200, or a body that is not a chat completion.
        """
        fields = _envelope(body)
        if fields.get("error", NULL) != NULL:
            raise failure_in_error(fields["error"], None)
        try:
            choices = decode_envelopes(fields["choices"])
            changed = self._tidy(choices)
        except (KeyError, msgspec.MsgspecError, RecursionError, JSONDecodeError) as error:
            raise ProviderProtocolError(f"the answer is not a chat completion: {_problem(error)}") from error
        members: dict[str, Any] = fields
        if changed:
            members["choices"] = choices
        return ChatCompletion(members, read_usage(fields.get("usage")))

    def open_stream(self) -> CompatibleStream:
        """A decoder for one streamed answer."""
        return CompatibleStream(self._quirks.finish_reasons)

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        """Classify an answer that is not the one hoped for."""
        return failure_in_body(status, headers, body)

    def encode_models(self) -> Call:
        """The call that lists the models."""
        return Call(self._models)

    def decode_models(self, body: bytes) -> list[Model]:
        """The models; OpenAI's envelope or a bare list (Together).

        Raises:
            ProviderProtocolError: if it is neither.
        """
        try:
            text = body.lstrip()
            rows = decode_json(text if text[:1] == b"[" else decode_envelope(text)["data"], list[ListedModel])
        except (KeyError, msgspec.MsgspecError, RecursionError, JSONDecodeError) as error:
            raise ProviderProtocolError(f"the models list cannot be read: {_problem(error)}") from error
        return [Model(row.id, int(row.created or 0), _context(row)) for row in rows]

    def _tidy(self, choices: list[dict[str, msgspec.Raw]]) -> bool:
        """Put foreign finish words and missing indexes right; True if anything changed.

        Raises:
            ProviderServerError: if a choice ended with `error`, which is a failure and no finish.
            JSONDecodeError: if a finish word is no word.
        """
        changed = False
        for at, choice in enumerate(choices):
            if "index" not in choice:
                choice["index"] = msgspec.Raw(b"%d" % at)
                changed = True
            reason = choice.get("finish_reason", NULL)
            if reason == _ERROR_FINISH:
                raise failure_in_error(choice.get("error", _NO_DETAIL), None)
            if self._quirks.finish_reasons and reason != NULL:
                word = decode_json(reason, str)
                if word in self._quirks.finish_reasons:
                    choice["finish_reason"] = msgspec.Raw(encode_json(self._quirks.finish_reasons[word]))
                    changed = True
        return changed


_ERROR_FINISH: Final = msgspec.Raw(b'"error"')
_NO_DETAIL: Final = msgspec.Raw(b'{"message":"the answer ended with finish_reason error"}')


def _with_usage(request: ChatRequest) -> msgspec.Raw:
    raw = request.fields.get("stream_options", NULL)
    if raw == NULL:
        return _ASK_USAGE
    options = decode_envelope(raw)
    options["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(encode_json(options))


def _envelope(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        if not body.isascii():
            # Raw members are not checked to be UTF-8, and a client's decoder would fail on what is not.
            body.decode()
        return decode_envelope(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProviderProtocolError(f"the answer is not a JSON object: {json_problem(error)}") from error


def _context(row: ListedModel) -> int | None:
    return row.context_window or row.context_length or row.max_model_len or row.max_context_length


def _problem(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else json_problem(error)
