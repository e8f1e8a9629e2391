"""Decodes a streamed answer of /api/chat: one JSON object per line, the last of which says `done`."""

from collections.abc import Callable
from typing import Any

from mana_llm.kit.fences import FenceStripper
from mana_llm.kit.framing import FrameTooLargeError, LineDecoder
from mana_llm.providers.ollama.answer import Answer, Progress, logprobs_of, read_answer, usage_in
from mana_llm.schema.chat import ChatChunk
from mana_llm.schema.errors import ProviderError, ProviderProtocolError


class OllamaStream:
    """A `ChatStreamDecoder` for NDJSON. Lines that add nothing give no chunk; usage is on the last one.

    `fences` is as in `Progress`; `is_cut` says of the last line whether the prompt was cut. `prompt_cut` is what
    it said; before, it may be set by who knows it already.
    """

    def __init__(self, fences: FenceStripper | None, is_cut: Callable[[Answer], bool]) -> None:
        self.failure: ProviderError | None = None
        self.done = False
        self.prompt_cut = False
        self._is_cut = is_cut
        self._lines = LineDecoder()
        self._progress = Progress(fences)
        self._role_said = False

    def feed(self, data: bytes) -> list[ChatChunk]:
        """The chunks that `data` completes, in order."""
        if self.done or self.failure is not None:
            return []
        try:
            return self._chunks_of(self._lines.feed(data))
        except FrameTooLargeError as error:
            self.failure = ProviderProtocolError(f"Ollama sent {error}.")
            return []

    def end(self) -> list[ChatChunk]:
        """What is left; an answer that was never done is a ProviderProtocolError."""
        if self.done or self.failure is not None:
            return []
        chunks = self._chunks_of(self._lines.flush())
        if not self.done and self.failure is None:
            self.failure = ProviderProtocolError("Ollama's stream ended before the answer was done.")
        return chunks

    def _chunks_of(self, lines: list[bytes]) -> list[ChatChunk]:
        chunks: list[ChatChunk] = []
        for line in lines:
            if self.done:
                break
            try:
                chunk = self._chunk_of(read_answer(line))
            except ProviderError as error:
                self.failure = error
                break
            if chunk is not None:
                chunks.append(chunk)
        return chunks

    def _chunk_of(self, answer: Answer) -> ChatChunk | None:
        if not self._progress.head:
            self._progress.begin(answer, "chat.completion.chunk")
        delta = self._progress.delta_of(answer)
        logprobs = logprobs_of(answer)
        if not (delta or logprobs or answer.done):
            return None
        has_content = bool(delta)
        choice: dict[str, Any] = {"index": 0, "delta": self._with_role(delta), "finish_reason": None}
        if logprobs:
            choice["logprobs"] = logprobs
        if not answer.done:
            return ChatChunk(dict(self._progress.head), [choice], None, has_content)
        choice["finish_reason"] = self._progress.finish_reason(answer)
        self.prompt_cut = self._is_cut(answer)
        self.done = True
        return ChatChunk(dict(self._progress.head), [choice], usage_in(answer), has_content=has_content, finished=True)

    def _with_role(self, delta: dict[str, Any]) -> dict[str, Any]:
        if self._role_said:
            return delta
        self._role_said = True
        return {"role": "assistant", **delta}
