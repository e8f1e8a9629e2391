"""Signs of life for a client that has waited long for the first content of a stream."""

import asyncio
from collections.abc import Awaitable, Callable


class SoftCommit:
    """Calls `beat` every `every_s` seconds, and tells it how many that are, until it is stopped; never, if that is 0.

    The work that is waited for goes on in the request's own task: nothing of it is interrupted or sliced, and what
    this costs a stream that begins in time is one timer.
    """

    __slots__ = ("_beat", "_every_s", "_task", "_timer")

    def __init__(self, beat: Callable[[float], Awaitable[None]], every_s: float) -> None:
        self._beat = beat
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(every_s, self._start) if every_s else None

    async def stop(self) -> None:
        """Beat no more; whatever was being sent has been sent or will not be when this returns."""
        if self._timer:
            self._timer.cancel()
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            await self._beat(self._every_s)
            await asyncio.sleep(self._every_s)
