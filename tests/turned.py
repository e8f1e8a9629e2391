"""An event loop whose time passes only when it is told to."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class TurnedLoop(asyncio.SelectorEventLoop):
    """The loop; it is a clock for what runs on it, too."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    now_s = time

    def wall_s(self) -> float:
        return self.now

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start `work`, and run it until it waits for something."""
        task = self.create_task(work)
        self.turn()
        return task

    def turn(self, after_s: float = 0.0) -> None:
        """Let time pass, and run all that is ready then, and what that makes ready."""
        self.now += after_s
        for _ in range(6):
            self.run_until_complete(asyncio.sleep(0))
