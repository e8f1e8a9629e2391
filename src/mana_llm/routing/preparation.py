"""What must be known or fetched before a provider can be asked: facts about the model, and parts named by URL.

Most requests need neither, and then this costs two calls that answer "nothing".

A question that a provider does not answer tells two things apart. Where nobody is reached, the provider has failed as
it would have failed the request: the walk goes on, and health learns of it. Where it is there but does not say, or not
in time, nothing is known, and the provider judges by that.
"""

from typing import Final

import msgspec

from mana_llm.kit.lru import LRU
from mana_llm.ports import Clock, Fetcher, Provider, Transport
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import ProviderConnectError, ProviderError, ProviderTimeoutError
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import Call, Endpoint, Limits, Question

FACTS_MAX: Final = 64
"""Answers that are kept: one may be megabytes, with a model's licence and template."""
FACTS_BYTES_MAX: Final = 4 * 1024 * 1024
ASK_S: Final = 3.0
"""Seconds that asking for what is needed may take."""
GLANCE_S: Final = 0.5
"""Seconds that asking may take for what is only good to know: the request does not wait for it longer."""
TIMER_SLACK_S: Final = 0.005
"""Seconds that must be left to begin anything. An attempt's limit is what is left of the walk's time, and uvloop's
timers are of whole milliseconds: it may end one or two before the walk's own deadline.
"""
_SERVER_ERROR: Final = 500


class Preparation:
    """Asks and fetches ahead of an attempt, and remembers the facts."""

    def __init__(self, transport: Transport, fetcher: Fetcher, clock: Clock) -> None:
        self._transport = transport
        self._fetcher = fetcher
        self._now_s = clock.now_s
        self._facts: LRU[tuple[Endpoint, bytes], tuple[float, bytes]] = LRU(FACTS_MAX)

    async def prepare(self, provider: Provider, request: ChatRequest, target: Target, limits: Limits) -> Limits:
        """Make `request` ready for `provider`, and give what is left of `limits`.

        Raises:
            ProviderCapabilityError: if the model is known not to do what the request needs.
            RequestError: if a part that is named by URL cannot be fetched.
            ProviderError: if the provider failed to answer; its health learns of it as of any failure.
            ProviderTimeoutError: if the walk's time ran out; health learns nothing of it.
        """
        questions = provider.questions(request, target.model)
        urls = [url for url in provider.urls_to_fetch(request) if url not in request.fetched]
        if not questions and not urls:
            return limits
        deadline_s = self._now_s() + limits.total_s
        if questions:
            facts = [await self._know(provider, question, limits, deadline_s) for question in questions]
            provider.judge(request, target.model, facts)
        if urls:
            request.fetched |= await self._fetcher.fetch(urls, deadline_s - self._now_s())
        return msgspec.structs.replace(limits, total_s=self._left_s(deadline_s))

    async def _know(self, provider: Provider, question: Question, limits: Limits, deadline_s: float) -> bytes | None:
        """The facts, from memory if they are fresh; None if they are not to be had. Raises as `prepare`."""
        key = (question.call.endpoint, question.call.body)
        known = self._facts.get(key)
        if known and self._now_s() < known[0]:
            return known[1]
        ask_s = min(ASK_S if question.needed else GLANCE_S, self._left_s(deadline_s))
        try:
            facts = await self._ask(provider, question.call, Limits(limits.connect_s, ask_s, ask_s, ask_s))
        except ProviderConnectError:
            raise
        except ProviderError:
            # If it was the walk's time that ran out, this says so.
            self._left_s(deadline_s)
            return None
        if facts is not None:
            self._facts.put(key, (self._now_s() + question.fresh_s, facts))
        return facts

    async def _ask(self, provider: Provider, call: Call, limits: Limits) -> bytes | None:
        """The answer's body; None if the answer is a refusal. Raises the ProviderError that it is or came to."""
        response = await self._transport.send(call, limits)
        try:
            body = await response.read_all(FACTS_BYTES_MAX)
        finally:
            response.close()
        if response.status >= _SERVER_ERROR:
            raise provider.decode_error(response.status, response.headers, body)
        return body if response.status == 200 else None

    def _left_s(self, deadline_s: float) -> float:
        left_s = deadline_s - self._now_s()
        if left_s < TIMER_SLACK_S:
            raise ProviderTimeoutError("The request's time ran out before this provider was asked.", health="none")
        return left_s
