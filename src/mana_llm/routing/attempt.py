"""One try at one entry of a chain: encode, send, decode. Plain and streamed are the same walk."""

import contextlib
from collections.abc import Awaitable
from typing import Final, NoReturn

import msgspec

from mana_llm.ports import Clock, Provider, Transport, UpstreamResponse
from mana_llm.routing.answer import Answer, LiveStream
from mana_llm.routing.preparation import Preparation
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import ProviderError
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import Limits

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
MIN_CALL_S: Final = 0.001
ERROR_BYTES_MAX: Final = 64 * 1024


Request = ChatRequest | EmbeddingsRequest


class Ways(msgspec.Struct, frozen=True):
    """What every attempt goes by."""

    transport: Transport
    preparation: Preparation
    clock: Clock


class Task:
    """What an attempt is to do: which request, for which target, within which limits.

    `asked_s` is the instant at which the call was sent, 0.0 before: from then on the gateway waits. `waited_s` is how
    long it waited for an answer that came, `connect_s` what of that went into connecting. `answered` is how many calls
    went well before the last one, of a request that takes several.
    """

    __slots__ = ("answered", "asked_s", "connect_s", "limits", "request", "target", "waited_s")

    def __init__(self, request: Request, target: Target, limits: Limits) -> None:
        self.request = request
        self.target = target
        self.limits = limits
        self.answered = 0
        self.asked_s = 0.0
        self.connect_s = 0.0
        self.waited_s = 0.0


def attempt(ways: Ways, provider: Provider, task: Task) -> Awaitable[Answer]:
    """Ask `provider` for what the task's request wants.

    Raises:
        ProviderError: whatever went wrong; nothing of this attempt is left open.
        RequestError: if the request cannot be written for this provider.
    """
    request = task.request
    if isinstance(request, ChatRequest):
        return _attempt_chat(ways, provider, request, task)
    return _attempt_embeddings(ways, provider, request, task)


async def _attempt_embeddings(ways: Ways, provider: Provider, request: EmbeddingsRequest, task: Task) -> Answer:
    """Every call of the request, one after the other; the first that fails ends the attempt."""
    calls = provider.encode_embeddings(request, task.target.model)
    answer = Answer(task.target, calls[0].ignored)
    bodies: list[bytes] = []
    task.asked_s = ways.clock.now_s()
    deadline_s = task.asked_s + task.limits.total_s
    for task.answered, call in enumerate(calls):
        left_s = max(deadline_s - ways.clock.now_s(), MIN_CALL_S)
        response = await ways.transport.send(call, msgspec.structs.replace(task.limits, total_s=left_s))
        task.connect_s += response.connect_s
        try:
            if response.status != 200 or response.media_type != provider.plain_type:
                await _refused(provider, response)
            # One bound for all of them, since all are held at once.
            bodies.append(await response.read_all(ANSWER_BYTES_MAX - sum(map(len, bodies))))
        finally:
            response.close()
    task.waited_s = ways.clock.now_s() - task.asked_s
    answer.embeddings = provider.decode_embeddings(bodies, request)
    return answer


async def _attempt_chat(ways: Ways, provider: Provider, request: ChatRequest, task: Task) -> Answer:
    """One call. A streamed answer is returned when its first delta with content has come."""
    if provider.questions(request, task.target.model) or provider.urls_to_fetch(request):
        await _prepare(ways, provider, request, task)
    call = provider.encode_chat(request, task.target.model)
    task.asked_s = ways.clock.now_s()
    response = await ways.transport.send(call, task.limits)
    task.connect_s = response.connect_s
    try:
        expected = provider.stream_type if request.stream else provider.plain_type
        if response.status != 200 or response.media_type != expected:
            await _refused(provider, response)
        answer = Answer(task.target, call.ignored)
        if request.stream:
            answer.stream = LiveStream(response, provider.open_stream(request, task.target.model))
            await answer.stream.begin()
            task.waited_s = ways.clock.now_s() - task.asked_s
        else:
            body = await response.read_all(ANSWER_BYTES_MAX)
            task.waited_s = ways.clock.now_s() - task.asked_s
            answer.completion = provider.decode_chat(body, request)
            response.close()
    except BaseException:
        # Cancellation too: whatever ends this attempt, its connection does not outlive it.
        response.close()
        raise
    return answer


async def _prepare(ways: Ways, provider: Provider, request: ChatRequest, task: Task) -> None:
    """Know and fetch what the request needs, out of the task's time."""
    began_s = ways.clock.now_s()
    try:
        task.limits = await ways.preparation.prepare(provider, request, task.target, task.limits)
    except ProviderError as error:
        if error.health != "none":
            # It was asked about its model and failed: that counts as any call to it does.
            task.asked_s = began_s
        raise


async def _refused(provider: Provider, response: UpstreamResponse) -> NoReturn:
    """Raise what the provider means by its answer; of an endless one, the beginning counts."""
    body = b""
    # The status says the most: a body that breaks off is judged by what came of it.
    with contextlib.suppress(ProviderError):
        while len(body) < ERROR_BYTES_MAX and (data := await response.read()):
            body += data
    raise provider.decode_error(response.status, response.headers, body[:ERROR_BYTES_MAX])
