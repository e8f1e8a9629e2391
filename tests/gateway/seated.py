"""Who sits and who waits before the local box, as tests of admission look at it."""

import asyncio

from tests.world import World


def seats(running: World) -> tuple[int, int]:
    """How many of the local box's places are taken, and how many requests wait for one."""
    gate = running.application.admission.gates["ollama"]
    return gate.in_flight, gate.waiting


async def until(condition) -> None:
    """Ask again until it holds; ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the gateway's own counters have no event
            await asyncio.sleep(0.002)
