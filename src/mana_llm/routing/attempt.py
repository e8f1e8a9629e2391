"""One try at one entry of a chain: encode, send, decode. Plain and streamed are the same walk."""

from typing import Final, NoReturn

from mana_llm.ports import Clock, Provider, Transport, UpstreamResponse
from mana_llm.routing.answer import Answer, LiveStream
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import Limits

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
ERROR_BYTES_MAX: Final = 64 * 1024


class Task:
    """What an attempt is to do: which request, for which target, within which limits.

    `asked_s` is the instant at which the call was sent, 0.0 before: from then on the gateway waits.
    """

    __slots__ = ("asked_s", "limits", "request", "target")

    def __init__(self, request: ChatRequest, target: Target, limits: Limits) -> None:
        self.request = request
        self.target = target
        self.limits = limits
        self.asked_s = 0.0


async def attempt(transport: Transport, provider: Provider, task: Task, clock: Clock) -> Answer:
    """Ask `provider`. A streamed answer is returned when its first delta with content has come.

    Raises:
        ProviderError: whatever went wrong; nothing of this attempt is left open.
    """
    request = task.request
    call = provider.encode_chat(request, task.target.model)
    task.asked_s = clock.now_s()
    response = await transport.send(call, task.limits)
    try:
        expected = provider.stream_type if request.stream else provider.plain_type
        if response.status != 200 or _media_type(response) != expected:
            await _refused(provider, response)
        answer = Answer(task.target, call.ignored)
        if request.stream:
            answer.stream = LiveStream(response, provider.open_stream())
            await answer.stream.begin()
            answer.waited_s = clock.now_s() - task.asked_s
        else:
            body = await response.read_all(ANSWER_BYTES_MAX)
            answer.waited_s = clock.now_s() - task.asked_s
            answer.completion = provider.decode_chat(body)
            response.close()
    except BaseException:
        # Cancellation too: whatever ends this attempt, its connection does not outlive it.
        response.close()
        raise
    return answer


async def _refused(provider: Provider, response: UpstreamResponse) -> NoReturn:
    """Raise what the provider means by its answer; of an endless one, the beginning counts."""
    body = b""
    while len(body) < ERROR_BYTES_MAX and (data := await response.read()):
        body += data
    raise provider.decode_error(response.status, response.headers, body[:ERROR_BYTES_MAX])


def _media_type(response: UpstreamResponse) -> bytes:
    for name, value in response.headers:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower()
    return b""
