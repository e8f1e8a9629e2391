"""Servers that speak OpenAI's API: one class for all, and what tells them apart is a row of `table.py`.

Both ends speak the same language here, so members that nobody needs to look at pass as they came.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mana_llm.providers.base_url import Base
from mana_llm.providers.compatible_answer import (
    BLOCKED,
    ERROR,
    Members,
    finish_word,
    raise_if_blocked,
    tidy_message,
    tidy_usage,
)
from mana_llm.providers.compatible_embeddings import NO_TOKENS, embeddings_bodies, embeddings_of
from mana_llm.providers.compatible_failures import failure_in_body, failure_in_error, raise_error
from mana_llm.providers.compatible_messages import MessageRules
from mana_llm.providers.compatible_models import models_of
from mana_llm.providers.compatible_quirks import Quirks
from mana_llm.providers.compatible_request import chat_fields
from mana_llm.providers.compatible_stream import CompatibleStream, decode_word
from mana_llm.providers.compatible_thoughts import Thoughts, ThoughtStream, kept_of
from mana_llm.schema.chat import ChatCompletion, ChatRequest
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import ProviderCapabilityError, ProviderError, ProviderProtocolError
from mana_llm.schema.models import Model
from mana_llm.schema.wire import (
    NULL,
    Call,
    Endpoint,
    Headers,
    JSONDecodeError,
    decode_envelope,
    decode_envelopes,
    encode_json,
    json_problem,
)

_ERROR_OBJECT: Final = msgspec.Raw(b'"error"')
_NO_DETAIL: Final = msgspec.Raw(b'{"message":"the answer ended with finish_reason error"}')
# What needs no second look: no finish yet, or one of OpenAI's own words.
_RIGHT_FINISHES: Final = frozenset(
    (b"null", b'"stop"', b'"length"', b'"tool_calls"', b'"content_filter"', b'"function_call"')
)
_KEY_BYTES_MIN: Final = 16
_UNREADABLE: Final = (KeyError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError, JSONDecodeError)


class Compatible:
    """An OpenAI-compatible server at `base`, asked with `key` ("" sends none)."""

    plain_type = b"application/json"
    stream_type = b"text/event-stream"

    def __init__(self, name: str, base: Base, key: str, quirks: Quirks) -> None:
        self.name = name
        self._quirks = quirks
        self._thoughts = Thoughts() if quirks.wants_thoughts else None
        self._rules = MessageRules(quirks, self._thoughts)
        self._key = key.encode()
        authorization = f"Authorization: Bearer {key}\r\n".encode() if key else b""
        posting = b"Content-Type: application/json\r\n" + authorization
        listing = base.prefix + quirks.listing
        self._chat = Endpoint(base.origin, "POST", f"{base.prefix}/chat/completions", posting)
        self._models = Endpoint(base.origin, "GET", f"{listing}/models", authorization)
        self._embeddings = Endpoint(base.origin, "POST", f"{listing}/embeddings", posting)

    def encode_chat(self, request: ChatRequest, model: str) -> Call:
        """The client's own members with the model's name replaced; streams always ask for their usage."""
        fields, ignored = chat_fields(request, model, self._quirks, self._rules)
        return Call(self._chat, encode_json(fields), ignored)

    def questions(self, request: ChatRequest, model: str) -> tuple[()]:
        """Nothing: such a server judges for itself."""
        return ()

    def judge(self, request: ChatRequest, model: str, facts: Sequence[bytes | None]) -> None:
        """Everything is let through: such a server judges for itself."""

    def urls_to_fetch(self, request: ChatRequest) -> tuple[str, ...]:
        """None: such a server fetches for itself."""
        return ()

    def decode_chat(self, body: bytes, request: ChatRequest) -> ChatCompletion:
        """A whole answer.

        Raises:
            ProviderError: for an error in a 200, or a body that is not a chat completion.
        """
        fields = _envelope(body)
        try:
            choices = decode_envelopes(fields["choices"])
            changed = self._tidy(choices, fields.get("id", NULL))
            if not choices:
                raise ProviderProtocolError("the answer has no choice")
            if choices[0].get("finish_reason") in BLOCKED:
                raise_if_blocked(choices)
            usage = None
            if "usage" in fields:
                fields["usage"], usage = tidy_usage(fields["usage"])
        except _UNREADABLE as error:
            raise ProviderProtocolError(f"the answer is not a chat completion: {_problem(error)}") from error
        if changed:
            fields["choices"] = choices
        return ChatCompletion(fields, usage)

    def open_stream(self, request: ChatRequest, model: str = "") -> CompatibleStream:
        """A decoder for one streamed answer."""
        thoughts = None if self._thoughts is None else ThoughtStream(self._thoughts)
        return CompatibleStream(self._quirks.finish_reasons, thoughts)

    def encode_embeddings(self, request: EmbeddingsRequest, model: str) -> list[Call]:
        """The client's own members with the model's name replaced, in as many calls as the server needs.

        Raises:
            ProviderCapabilityError: if the server has no embeddings, or takes no tokens and they were given.
        """
        quirks = self._quirks.embeddings
        if quirks is None:
            raise ProviderCapabilityError("This provider has no embeddings. Choose another model.", param="model")
        if request.texts is None and not quirks.tokens:
            raise ProviderCapabilityError(NO_TOKENS, param="input")
        bodies, ignored = embeddings_bodies(request, model, quirks, self._quirks.drops)
        return [Call(self._embeddings, body, ignored) for body in bodies]

    def decode_embeddings(self, bodies: list[bytes], request: EmbeddingsRequest) -> Embeddings:
        """The answers to those calls as one.

        Raises:
            ProviderError: for an error in a 200, or a body that holds no embeddings.
        """
        quirks = self._quirks.embeddings
        return embeddings_of([_envelope(body) for body in bodies], request, int8=quirks is not None and quirks.int8)

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        """Classify an answer that is not the one hoped for."""
        # Some quote the key that they refuse. A short one is a test's, and may be a part of ordinary words.
        quoted = len(self._key) >= _KEY_BYTES_MIN
        return failure_in_body(status, headers, body.replace(self._key, b"***") if quoted else body)

    def encode_models(self) -> Call:
        """The call that lists the models."""
        return Call(self._models)

    def decode_models(self, body: bytes) -> list[Model]:
        """The models, with what their rows tell. Raises ProviderProtocolError if it is no list of models."""
        return models_of(body)

    def _tidy(self, choices: list[Members], seed: msgspec.Raw) -> bool:
        """Put messages, foreign finish words and missing indexes right; True if anything changed.

        `seed` makes the ids of calls that have none.

        Raises:
            ProviderServerError: if a choice ended with `error`, which is a failure and no finish.
            JSONDecodeError: if a finish word is no word.
        """
        changed = False
        for at, choice in enumerate(choices):
            if "index" not in choice:
                choice["index"] = msgspec.Raw(b"%d" % at)
                changed = True
            calls = False
            if choice.get("message", NULL) != NULL:
                message: Members = decode_envelope(choice["message"])
                if tidy_message(message, (seed, at)):
                    choice["message"] = message
                    changed = True
                calls = isinstance(message.get("tool_calls"), list)
                if calls and self._thoughts is not None:
                    kept_of(message, self._thoughts)
            if bytes(choice.get("finish_reason", NULL)) not in _RIGHT_FINISHES:
                changed = self._finish(choice, calls=calls) or changed
        return changed

    def _finish(self, choice: Members, *, calls: bool) -> bool:
        given = decode_word(choice["finish_reason"])
        # An empty word says that the server has none for it (Snowflake, recorded); the answer is whole.
        word = finish_word(given, self._quirks.finish_reasons) if given else "tool_calls" if calls else "stop"
        if word == ERROR:
            raise failure_in_error(choice.get("error", _NO_DETAIL), None)
        choice["finish_reason"] = word
        return bool(word != given)


def _envelope(body: bytes) -> dict[str, Any]:
    """The body's members.

    Raises:
        ProviderError: if it tells an error, with `error` around it or flat (Mistral), or is no JSON object.
    """
    try:
        if not body.isascii():
            # Raw members are not checked to be UTF-8, and a client's decoder would fail on what is not.
            body.decode()
        fields = decode_envelope(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProviderProtocolError(f"the answer is not a JSON object: {json_problem(error)}") from error
    if "error" in fields:
        raise_error(fields)
    if fields.get("object") == _ERROR_OBJECT:
        raise failure_in_body(200, [], body)
    return fields


def _problem(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else json_problem(error)
