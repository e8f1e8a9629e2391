"""Decodes a streamed answer of streamGenerateContent?alt=sse. Source: docs/sources.md (Gemini).

There is no end marker, and neither the event with the finish nor the one with the first counts need be the
last: a block of the prompt may follow, too. So deltas leave at once, while the finish, a message's signature and
the usage of the last event are kept until the body is complete.
"""

from typing import Any

from mana_llm.kit.framing import FrameTooLargeError, SSEDecoder
from mana_llm.providers.google.answer import (
    Progress,
    Reading,
    carries_content,
    end_if_blocked,
    failure_at_end,
    head_of,
    index_of,
)
from mana_llm.providers.google.finish import finish_reason
from mana_llm.providers.google.wire import (
    Answer,
    Candidate,
    UsageMetadata,
    logprobs_in,
    read_answer,
    usage_in,
)
from mana_llm.schema.chat import ChatChunk
from mana_llm.schema.errors import ProviderError, ProviderProtocolError


class GoogleStream:
    """A `ChatStreamDecoder` for Gemini's events; `end` sets `done`, since only the body's end says so."""

    def __init__(self, reading: Reading) -> None:
        self.failure: ProviderError | None = None
        self.done = False
        self._reading = reading
        self._events = SSEDecoder()
        self._head: dict[str, Any] = {}
        self._seed = ""
        self._choices: dict[int, Progress] = {}
        self._counts: UsageMetadata | None = None

    def feed(self, data: bytes) -> list[ChatChunk]:
        """The chunks that `data` completes, in order."""
        if self.done or self.failure is not None:
            return []
        try:
            return self._chunks_of(self._events.feed(data))
        except FrameTooLargeError as error:
            self.failure = ProviderProtocolError(f"Gemini sent {error}.")
            return []

    def end(self) -> list[ChatChunk]:
        """What is left, and the chunk with finish and usage; an answer without a finish sets `failure`."""
        if self.done or self.failure is not None:
            return []
        chunks = self._chunks_of(self._events.flush())
        if self.failure is None:
            self.failure = failure_at_end(self._choices.values())
        if self.failure is not None:
            return chunks
        self.done = True
        return [*chunks, self._last_chunk()]

    def _chunks_of(self, events: list[bytes]) -> list[ChatChunk]:
        chunks: list[ChatChunk] = []
        for event in events:
            try:
                chunk = self._chunk_of(read_answer(event))
            except ProviderError as error:
                self.failure = error
                break
            if chunk is not None:
                chunks.append(chunk)
        return chunks

    def _chunk_of(self, answer: Answer) -> ChatChunk | None:
        if not self._head:
            self._head = head_of(answer, "chat.completion.chunk")
            self._seed = answer.response_id or ""
        self._counts = answer.usage_metadata or self._counts
        pieces = [self._piece_of(candidate, at) for at, candidate in enumerate(answer.candidates or ())]
        end_if_blocked(answer, self._choices.values())
        choices = [piece for piece in pieces if piece is not None]
        if not choices:
            return None
        has_content = any(carries_content(choice["delta"]) for choice in choices)
        return ChatChunk(dict(self._head), choices, None, has_content)

    def _piece_of(self, candidate: Candidate, at: int) -> dict[str, Any] | None:
        index = index_of(candidate, at)
        progress = self._choices.get(index)
        if progress is None:
            progress = self._choices[index] = Progress(index, self._seed, self._reading)
        delta = progress.delta_of(candidate)
        logprobs = logprobs_in(candidate)
        if not delta and not logprobs:
            return None
        choice = _choice(progress, delta, None)
        return {**choice, "logprobs": logprobs} if logprobs else choice

    def _last_chunk(self) -> ChatChunk:
        choices = []
        for progress in self._choices.values():
            finish = finish_reason(progress.finish, has_calls=progress.has_calls)
            choices.append(_choice(progress, progress.rest(), finish))
        has_content = any(carries_content(choice["delta"]) for choice in choices)
        return ChatChunk(dict(self._head), choices, usage_in(self._counts), has_content, finished=True)


def _choice(progress: Progress, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    if not progress.role_said:
        progress.role_said = True
        delta = {"role": "assistant", **delta}
    return {"index": progress.index, "delta": delta, "finish_reason": finish}
