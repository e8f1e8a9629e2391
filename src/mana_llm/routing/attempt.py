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

    `asked_s` is the instant at which the call was sent, 0.0 before: from then on the gateway waits.
    """

    __slots__ = ("asked_s", "limits", "request", "target")

    def __init__(self, request: Request, target: Target, limits: Limits) -> None:
        self.request = request
        self.target = target
        self.limits = limits
        self.asked_s = 0.0


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
    bodies = []
    task.asked_s = ways.clock.now_s()
    deadline_s = task.asked_s + task.limits.total_s
    for call in calls:
        left_s = max(deadline_s - ways.clock.now_s(), MIN_CALL_S)
        response = await ways.transport.send(call, msgspec.structs.replace(task.limits, total_s=left_s))
        try:
            if response.status != 200 or _media_type(response) != provider.plain_type:
                await _refused(provider, response)
            bodies.append(await response.read_all(ANSWER_BYTES_MAX))
        finally:
            response.close()
    answer.waited_s = ways.clock.now_s() - task.asked_s
    answer.embeddings = provider.decode_embeddings(bodies, request)
    return answer


async def _attempt_chat(ways: Ways, provider: Provider, request: ChatRequest, task: Task) -> Answer:
    """One call. A streamed answer is returned when its first delta with content has come."""
    if provider.question(request, task.target.model) is not None or provider.urls_to_fetch(request):
        task.limits = await ways.preparation.prepare(provider, request, task.target, task.limits)
    call = provider.encode_chat(request, task.target.model)
    task.asked_s = ways.clock.now_s()
    response = await ways.transport.send(call, task.limits)
    try:
        expected = provider.stream_type if request.stream else provider.plain_type
        if response.status != 200 or _media_type(response) != expected:
            await _refused(provider, response)
        answer = Answer(task.target, call.ignored)
        if request.stream:
            answer.stream = LiveStream(response, provider.open_stream(request))
            await answer.stream.begin()
            answer.waited_s = ways.clock.now_s() - task.asked_s
        else:
            body = await response.read_all(ANSWER_BYTES_MAX)
            answer.waited_s = ways.clock.now_s() - task.asked_s
            answer.completion = provider.decode_chat(body, request)
            response.close()
    except BaseException:
        # Cancellation too: whatever ends this attempt, its connection does not outlive it.
        response.close()
        raise
    return answer


async def _refused(provider: Provider, response: UpstreamResponse) -> NoReturn:
    """Raise what the provider means by its answer; of an endless one, the beginning counts."""
    body = b""
    # The status says the most: a body that breaks off is judged by what came of it.
    with contextlib.suppress(ProviderError):
        while len(body) < ERROR_BYTES_MAX and (data := await response.read()):
            body += data
    raise provider.decode_error(response.status, response.headers, body[:ERROR_BYTES_MAX])


def _media_type(response: UpstreamResponse) -> bytes:
    for name, value in response.headers:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower()
    return b""
