"""Two walks along one chain: the second begins when the first has been silent for too long, and one of them answers."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mana_llm.routing.answer import Answer

WalkOn = Callable[[], Coroutine[Any, Any, Answer | None]]


async def race(walk_on: WalkOn, after_s: float, allowed: Callable[[], bool]) -> tuple[Answer | None, bool | None]:
    """The first answer, and whether the hedge gave it (None if there was no hedge).

    `walk_on` takes the next entries of the chain, None when none is left. The hedge begins `after_s` after the first
    if `allowed` says so. The loser is cancelled, and gone before this returns; an answer that it had is closed.

    Raises:
        GatewayError: what ended the first walk, or the hedge where the first found no entry.
    """
    tasks = [asyncio.create_task(walk_on())]
    winner: Answer | None = None
    try:
        done, _ = await asyncio.wait(tasks, timeout=after_s)
        if done or not allowed():
            winner = await tasks[0]
            return winner, None
        tasks.append(asyncio.create_task(walk_on()))
        winner, giver = await _first_answer(tasks)
        return winner, giver > 0
    finally:
        for task in tasks:
            task.cancel()
        # A cancelled walk gives back its permit, its seat and its connection before it ends.
        for left in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(left, Answer) and left is not winner:
                left.close()


async def _first_answer(tasks: list[asyncio.Task[Answer | None]]) -> tuple[Answer | None, int]:
    """The first answer, and the number of the walk that gave it; None and 0 if no entry is left for either."""
    pending = set(tasks)
    problem: BaseException | None = None
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for number, task in enumerate(tasks):
            if task not in done:
                continue
            error = task.exception()
            if error and not number:
                raise error
            problem = problem or error
            if not error and (answer := task.result()):
                return answer, number
    if problem:
        raise problem
    return None, 0
