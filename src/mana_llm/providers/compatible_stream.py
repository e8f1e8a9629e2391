"""A streamed answer of an OpenAI-compatible server, event by event."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mana_llm.kit.framing import FrameTooLargeError, SSEDecoder
from mana_llm.providers.compatible_failures import failure_in_error
from mana_llm.schema.chat import ChatChunk
from mana_llm.schema.errors import ProviderError, ProviderProtocolError
from mana_llm.schema.wire import (
    NULL,
    JSONDecodeError,
    decode_envelope,
    decode_envelopes,
    decoder_of,
    json_problem,
)

_EMPTY: Final = frozenset((b"null", b'""', b"[]", b"{}"))
_ZERO: Final = msgspec.Raw(b"0")
_ERROR_FINISH: Final = msgspec.Raw(b'"error"')
_NO_DETAIL: Final = msgspec.Raw(b'{"message":"the stream ended with finish_reason error"}')
# What a delta can carry besides the role. Anything else (Together's token_id) is no content by itself.
_CONTENT: Final = frozenset(
    ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio")
)


decode_index: Final = decoder_of(int)
decode_word: Final = decoder_of(str)


class CompatibleStream:
    """Decodes one answer; see `ports.ChatStreamDecoder` for what it promises."""

    def __init__(self, finish_reasons: Mapping[str, str]) -> None:
        self.failure: ProviderError | None = None
        self.done = False
        self._sse = SSEDecoder()
        self._finish_reasons = finish_reasons
        self._finished = False

    def feed(self, data: bytes) -> list[ChatChunk]:
        """The chunks that `data` completes; sets `failure` or `done`."""
        try:
            events = self._sse.feed(data)
        except FrameTooLargeError as error:
            self.failure = ProviderProtocolError(f"the stream holds {error}")
            return []
        return self._chunks(events)

    def end(self) -> list[ChatChunk]:
        """What is left; an answer with neither finish nor end marker was cut short."""
        chunks = self._chunks(self._sse.flush())
        if not self.done and self.failure is None:
            if self._finished:
                # Groq leaves out the marker after an error only; others forget it: the finish is enough.
                self.done = True
            else:
                self.failure = ProviderProtocolError("the stream ended without a finish or [DONE]")
        return chunks

    def _chunks(self, events: list[bytes]) -> list[ChatChunk]:
        chunks = []
        for event in events:
            if event.startswith(b"[DONE]"):
                self.done = True
                break
            try:
                chunks.append(self._chunk(event))
            except ProviderError as error:
                self.failure = error
                break
            except (msgspec.MsgspecError, JSONDecodeError, RecursionError, UnicodeDecodeError) as error:
                self.failure = ProviderProtocolError(f"an event of the stream cannot be read: {json_problem(error)}")
                break
        return chunks

    def _chunk(self, event: bytes) -> ChatChunk:
        # Raw members are not checked to be UTF-8, and a client's decoder would fail on what is not.
        if not event.isascii():
            event.decode()
        fields: dict[str, Any] = decode_envelope(event)
        if "error" in fields and fields["error"] != NULL:
            raise failure_in_error(fields["error"], None)
        raw = fields.pop("choices", NULL)
        usage = fields.pop("usage", NULL)
        chunk = ChatChunk(fields, [] if raw == NULL else decode_envelopes(raw))
        if usage != NULL:
            chunk.usage = usage
        for choice in chunk.choices:
            self._read(choice, chunk)
        return chunk

    def _read(self, choice: dict[str, Any], chunk: ChatChunk) -> None:
        """Open one choice: its delta becomes a dict, its index a number, its finish one of OpenAI's words."""
        delta = choice.get("delta", NULL)
        choice["delta"] = members = {} if delta == NULL else decode_envelope(delta)
        for name, value in members.items():
            if name in _CONTENT and bytes(value) not in _EMPTY:
                chunk.has_content = True
        index = choice.get("index", _ZERO)
        choice["index"] = 0 if index == _ZERO else decode_index(index)
        reason = choice.get("finish_reason", NULL)
        if reason != NULL:
            self._finish(choice, reason, chunk)

    def _finish(self, choice: dict[str, Any], reason: msgspec.Raw, chunk: ChatChunk) -> None:
        if reason == _ERROR_FINISH:
            raise failure_in_error(choice.get("error", _NO_DETAIL), None)
        word = decode_word(reason)
        choice["finish_reason"] = self._finish_reasons.get(word, word)
        chunk.finished = self._finished = True
