"""Two walks along one chain: the second begins when the first has been silent for too long, and one of them answers."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mana_llm.routing.answer import Answer

WalkOn = Callable[[], Coroutine[Any, Any, Answer | None]]
Tasks = list[asyncio.Task[Answer | None]]


async def race(
    walk_on: WalkOn, after_s: float, allowed: Callable[[], bool], ended: Callable[[bool], None]
) -> Answer | None:
    """The first answer; None if no entry is left for either.

    `walk_on` takes the next entries of the chain, None when none is left. The hedge begins `after_s` after the first
    if `allowed` says so; `ended` then hears whether the hedge gave the answer, however the race ends. The loser is
    cancelled, and gone before this returns; an answer that it had is closed.

    Raises:
        GatewayError: what ended the first walk, or the hedge where the first found no entry.
    """
    tasks = [asyncio.create_task(walk_on())]
    winner: asyncio.Task[Answer | None] | None = None
    try:
        done, _ = await asyncio.wait(tasks, timeout=after_s)
        if not done and allowed():
            tasks.append(asyncio.create_task(walk_on()))
        winner = await _first_answer(tasks)
        return winner.result() if winner else None
    finally:
        if len(tasks) > 1:
            ended(winner is tasks[1])
        try:
            await _let_go([task for task in tasks if task is not winner])
        except BaseException:
            # The client left while the loser went: nobody is there to close the answer.
            if winner:
                _close(winner)
            raise


async def _first_answer(tasks: Tasks) -> asyncio.Task[Answer | None] | None:
    """The walk that gave an answer first."""
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
            if not error and task.result():
                return task
    if problem:
        raise problem
    return None


async def _let_go(tasks: Tasks) -> None:
    """End walks that nobody waits for: a cancelled one gives back its permit, its seat and its connection."""
    pending = set()
    for task in tasks:
        if task.done():
            _close(task)
        else:
            task.cancel()
            # Not after the wait below: that may itself be cancelled.
            task.add_done_callback(_close)
            pending.add(task)
    if pending:
        await asyncio.wait(pending)


def _close(task: asyncio.Task[Answer | None]) -> None:
    if not task.cancelled() and not task.exception() and (answer := task.result()):
        answer.close()
