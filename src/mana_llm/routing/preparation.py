"""What must be known or fetched before a provider can be asked: facts about the model, and parts named by URL.

Most requests need neither, and then this costs two calls that answer "nothing".
"""

from typing import Final

import msgspec

from mana_llm.kit.lru import LRU
from mana_llm.ports import Clock, Fetcher, Provider, Transport
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import ProviderError, ProviderTimeoutError
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import Call, Limits

FACTS_S: Final = 300.0
"""Seconds that a provider's answer about a model is believed; a model may be pulled anew under its name."""
FACTS_MAX: Final = 64
"""Models whose facts are kept: an answer may be megabytes, with its licence and template."""
FACTS_BYTES_MAX: Final = 4 * 1024 * 1024
ASK_S: Final = 3.0
"""Seconds that asking may take; without an answer the provider judges by the model's name."""
TIMER_SLACK_S: Final = 0.005
"""Seconds that must be left to begin anything. An attempt's limit is what is left of the walk's time, and uvloop's
timers are of whole milliseconds: it may end one or two before the walk's own deadline.
"""


class Preparation:
    """Asks and fetches ahead of an attempt, and remembers the facts."""

    def __init__(self, transport: Transport, fetcher: Fetcher, clock: Clock) -> None:
        self._transport = transport
        self._fetcher = fetcher
        self._now_s = clock.now_s
        self._facts: LRU[str, tuple[float, bytes]] = LRU(FACTS_MAX)

    async def prepare(self, provider: Provider, request: ChatRequest, target: Target, limits: Limits) -> Limits:
        """Make `request` ready for `provider`, and give what is left of `limits`.

        Raises:
            ProviderCapabilityError: if the model is known not to do what the request needs.
            RequestError: if a part that is named by URL cannot be fetched.
            ProviderTimeoutError: if the walk's time ran out; health learns nothing of it.
        """
        question = provider.question(request, target.model)
        urls = [url for url in provider.urls_to_fetch(request) if url not in request.fetched]
        if question is None and not urls:
            return limits
        deadline_s = self._now_s() + limits.total_s
        if question is not None:
            provider.judge(request, target.model, await self._ask(question, target.label, limits))
        if urls:
            request.fetched |= await self._fetcher.fetch(urls, deadline_s - self._now_s())
        left_s = deadline_s - self._now_s()
        if left_s < TIMER_SLACK_S:
            raise ProviderTimeoutError("The request's time ran out before this provider was asked.", health="none")
        return msgspec.structs.replace(limits, total_s=left_s)

    async def _ask(self, question: Call, label: str, limits: Limits) -> bytes | None:
        """The facts, from memory if they are fresh; None if they are not to be had."""
        known = self._facts.get(label)
        if known and self._now_s() < known[0]:
            return known[1]
        ask_s = min(ASK_S, limits.total_s)
        try:
            response = await self._transport.send(question, Limits(limits.connect_s, ask_s, ask_s, ask_s))
            try:
                facts = await response.read_all(FACTS_BYTES_MAX)
                status = response.status
            finally:
                response.close()
        except ProviderError:
            return None
        if status != 200:
            return None
        self._facts.put(label, (self._now_s() + FACTS_S, facts))
        return facts
