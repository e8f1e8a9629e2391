"""A streamed answer of an OpenAI-compatible server, event by event."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mana_llm.kit.framing import FrameTooLargeError, SSEDecoder
from mana_llm.providers.compatible_answer import ERROR, SAID, finish_word, raise_if_blocked, tidy_texts, tidy_usage
from mana_llm.providers.compatible_calls import CallDeltas
from mana_llm.providers.compatible_failures import failure_alone, failure_in_error, raise_error
from mana_llm.providers.compatible_thoughts import ThoughtStream
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
_NO_DETAIL: Final = msgspec.Raw(b'{"message":"the stream ended with finish_reason error"}')
_QUOTE: Final = ord('"')


decode_index: Final = decoder_of(int)
decode_word: Final = decoder_of(str)


class CompatibleStream:
    """Decodes one answer; see `ports.ChatStreamDecoder` for what it promises. `thoughts` hears what it thinks."""

    def __init__(self, finish_reasons: Mapping[str, str], thoughts: ThoughtStream | None = None) -> None:
        self.failure: ProviderError | None = None
        self.done = False
        self._sse = SSEDecoder()
        self._finish_reasons = finish_reasons
        self._thoughts = thoughts
        self._finished = False
        self._spoke = False
        self._hollow = self._chose = False
        self._calls: dict[int, CallDeltas] = {}

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
                self._mark()
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

    def _mark(self) -> None:
        """Take the end marker. It alone is an empty answer; events that had no choice, ever, are none."""
        if self._hollow and not self._chose:
            self.failure = ProviderProtocolError("the stream ended without a choice")
        else:
            self.done = True

    def _chunk(self, event: bytes) -> ChatChunk:
        # Raw members are not checked to be UTF-8, and a client's decoder would fail on what is not.
        if not event.isascii():
            event.decode()
        fields: dict[str, Any] = decode_envelope(event)
        if "error" in fields:
            raise_error(fields)
        raw = fields.pop("choices", NULL)
        usage = fields.pop("usage", NULL)
        if raw == NULL:
            failure = failure_alone(fields) if usage == NULL else None
            if failure is not None:
                raise failure
            chunk = ChatChunk(fields, [])
        else:
            chunk = ChatChunk(fields, decode_envelopes(raw))
        if usage != NULL:
            chunk.usage, _ = tidy_usage(usage)
        if chunk.choices:
            self._chose = True
        else:
            self._hollow = True
        for choice in chunk.choices:
            self._read(choice, chunk)
        if chunk.finished and not self._spoke:
            raise_if_blocked(chunk.choices)
        return chunk

    def _read(self, choice: dict[str, Any], chunk: ChatChunk) -> None:
        """Open one choice: its delta becomes a dict, its index a number, its finish one of OpenAI's words."""
        delta = choice.get("delta", NULL)
        choice["delta"] = members = {} if delta == NULL else decode_envelope(delta)
        index = choice.get("index", _ZERO)
        choice["index"] = 0 if index == _ZERO else decode_index(index)
        odd = False
        for name, value in members.items():
            if name in SAID:
                text = bytes(value)
                if text not in _EMPTY:
                    chunk.has_content = self._spoke = True
                    # A plain text is right as it is; calls, lists of chunks and another spelling are not.
                    if text[0] != _QUOTE or name == "reasoning":
                        odd = True
        if odd:
            self._tidy(members, choice["index"], chunk)
        if self._thoughts is not None:
            self._thoughts.saw(choice["index"], members)
        reason = choice.get("finish_reason", NULL)
        if reason != NULL:
            self._finish(choice, reason, chunk)

    def _tidy(self, members: dict[str, Any], index: int, chunk: ChatChunk) -> None:
        tidy_texts(members)
        calls = members.get("tool_calls", NULL)
        if bytes(calls) not in _EMPTY:
            known = self._calls.get(index)
            if known is None:
                known = self._calls[index] = CallDeltas(f"{bytes(chunk.fields.get('id', NULL))!r} {index}")
            members["tool_calls"] = known.tidy(calls)

    def _finish(self, choice: dict[str, Any], reason: msgspec.Raw, chunk: ChatChunk) -> None:
        given = decode_word(reason)
        if not given:
            # Some servers write "not yet" as an empty text.
            choice["finish_reason"] = None
            return
        word = finish_word(given, self._finish_reasons)
        if word == ERROR:
            raise failure_in_error(choice.get("error", _NO_DETAIL), None)
        choice["finish_reason"] = word
        chunk.finished = self._finished = True
        if self._thoughts is not None:
            self._thoughts.finished(choice["index"])
        if chunk.usage is None and choice.get("usage", NULL) != NULL:
            # Moonshot counts inside the choice. Source: platform.moonshot.ai/docs, streaming.
            chunk.usage, _ = tidy_usage(choice.pop("usage"))
