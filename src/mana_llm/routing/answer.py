"""What an attempt that succeeded hands to the edge: a whole answer, or a stream whose content has begun."""

from collections.abc import Callable
from typing import Any, Final

from mana_llm.ports import ChatStreamDecoder, UpstreamResponse
from mana_llm.routing.estimate import chars_in
from mana_llm.schema.chat import ChatChunk, ChatCompletion
from mana_llm.schema.embeddings import Embeddings
from mana_llm.schema.errors import ProviderError, ProviderProtocolError
from mana_llm.schema.targets import Target
from mana_llm.schema.usage import Usage, read_usage

PENDING_MAX: Final = 1_000
"""Chunks without content that are kept while the first content is awaited."""
PENDING_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes that may be read in that time: two lines of the largest size."""


class LiveStream:
    """A streamed answer. Whoever holds it reads until [] or an error, and closes it in any case.

    `relayed_chars` is how many characters of content were read from it so far.
    """

    def __init__(self, response: UpstreamResponse, decoder: ChatStreamDecoder) -> None:
        self._response = response
        self._decoder = decoder
        self._pending: list[ChatChunk] = []
        self._usage: Any = None
        self._read_bytes = 0
        self.relayed_chars = 0
        self.on_failure: Callable[[ProviderError], None] | None = None
        self.on_close: Callable[[bool], None] | None = None
        """Told at the close, once, whether the answer was whole."""

    @property
    def done(self) -> bool:
        """Whether everything was read, and the answer is whole."""
        return self._decoder.done and not self._pending

    @property
    def usage(self) -> Usage | None:
        """What the provider has reported so far."""
        return read_usage(self._usage)

    @property
    def prompt_cut(self) -> bool:
        """Whether the provider is known to drop a part of the prompt: certain at once, told at the end, or never."""
        return bool(getattr(self._decoder, "prompt_cut", False))

    async def begin(self) -> None:
        """Wait for the first chunk with content or a finish; a clean end is a beginning too.

        Raises:
            ProviderError: if the stream failed before; nothing of it has been shown to anybody then.
        """
        while not self._decoder.done:
            chunks = await self._more()
            self._pending += chunks
            if any(chunk.has_content or chunk.finished for chunk in chunks):
                break
            if len(self._pending) > PENDING_MAX or self._read_bytes > PENDING_BYTES_MAX:
                raise ProviderProtocolError("the stream sent too much without content")
            if self._decoder.failure:
                raise self._decoder.failure
        self._response.content_began()

    async def read(self) -> list[ChatChunk]:
        """The next chunks, those of `begin` first; [] when the answer is whole.

        Raises:
            ProviderError: if the answer broke, after everything before the break was given.
        """
        if self._pending:
            chunks, self._pending = self._pending, []
            self.relayed_chars += chars_in(chunks)
            return chunks
        decoder = self._decoder
        while not decoder.done:
            if decoder.failure:
                self._fail(decoder.failure)
            try:
                chunks = await self._more()
            except ProviderError as error:
                self._fail(error)
            if chunks:
                self.relayed_chars += chars_in(chunks)
                return chunks
        return []

    def close(self) -> None:
        """Let go of the upstream: a whole answer's connection is used again, a broken or unwanted one is cut."""
        whole = self._decoder.done
        if whole:
            self._response.finish()
        else:
            self._response.close()
        if self.on_close:
            on_close, self.on_close = self.on_close, None
            on_close(whole)

    async def _more(self) -> list[ChatChunk]:
        data = await self._response.read()
        self._read_bytes += len(data)
        chunks = self._decoder.feed(data) if data else self._decoder.end()
        for chunk in chunks:
            if chunk.usage is not None:
                self._usage = chunk.usage
        return chunks

    def _fail(self, error: ProviderError) -> None:
        if self.on_failure:
            self.on_failure(error)
        raise error


class Answer:
    """Who answered, and the answer: `completion` of a plain request, `stream` of a streamed one, or
    `embeddings`.

    Whoever holds it closes it, unless it is whole.
    """

    __slots__ = ("completion", "embeddings", "ignored", "stream", "target")

    def __init__(self, target: Target, ignored: tuple[str, ...]) -> None:
        self.target = target
        self.ignored = ignored
        self.completion: ChatCompletion | None = None
        self.stream: LiveStream | None = None
        self.embeddings: Embeddings | None = None

    def close(self) -> None:
        """Let go of what a stream holds; nothing for a whole answer."""
        if self.stream:
            self.stream.close()
