"""Virtual time for tests over real sockets: a loop whose clock stands still while anything happens, and jumps.

Gateway, simulator and client run in one process and one loop. While bytes are on their way between them the clock
stands; when a real `select` finds nothing, and no thread works for the loop, only a timer can go on: the clock jumps to
it. So the gateway's own limits, of minutes, are tried as they are and cost no time, and every instant is exact.

What waits for another process, or for a thread that the loop knows nothing of, has no place here: the clock would not
wait for it.
"""

import asyncio
import selectors
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

BEGAN_S = 1_000.0
"""What the loop's clock says at first: not 0.0, which the gateway takes for "never"."""
WALL_S = 1_790_812_800.0
"""2026-10-01T00:00:00Z: Unix time at that moment."""
VIRTUAL_S_MAX = 7_200.0
"""How long a test may take in virtual time. The gateway's own timers never end, so neither would a test that hangs."""
THREAD_S_MAX = 20.0
"""How long, in real time, a thread may work for the loop."""
PASSES = 3
"""How often a byte goes to and fro before the loop is taken for idle: a handshake takes a round and a half."""


class Clock:
    """Implements `ports.Clock` by a loop's own time."""

    def __init__(self, loop: "JumpingLoop") -> None:
        self.now_s = loop.time

    def wall_s(self) -> float:
        return WALL_S + self.now_s() - BEGAN_S


class Courier:
    """A byte on a loopback connection of its own. The kernel carries what is sent on loopback in its order, so when
    the byte has arrived, everything that was sent before it has.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._ends = [socket.create_connection(listener.getsockname(), THREAD_S_MAX)]
            self._ends.append(listener.accept()[0])
        for end in self._ends:
            end.settimeout(THREAD_S_MAX)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        """To and fro."""
        here, there = self._ends
        for _ in range(PASSES):
            here.send(b".")
            there.recv(1)
            there.send(b".")
            here.recv(1)

    def close(self) -> None:
        for end in self._ends:
            end.close()


class Selector(selectors.DefaultSelector):
    """Never waits, but for threads: where it would, `idle` decides whether there is anything to wait for."""

    idle: Callable[[float | None], bool]
    """Takes the seconds that the loop would wait; says whether to wait for a thread in real time."""

    def __init__(self) -> None:
        super().__init__()
        self._courier = Courier()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        self._courier.run()
        found = super().select(0)
        if not found and self.idle(timeout):
            found = super().select(THREAD_S_MAX)
            assert found, "a thread did not end"
        return found

    def close(self) -> None:
        self._courier.close()
        super().close()


class JumpingLoop(asyncio.SelectorEventLoop):
    """`jump_count` says how often the clock jumped, `thread_waits` how often something was really waited for."""

    def __init__(self) -> None:
        selector = Selector()
        self._now_s = BEGAN_S
        self._working = 0
        self.jump_count = self.thread_waits = 0
        self.clock = Clock(self)
        super().__init__(selector)
        selector.idle = self._idle

    def time(self) -> float:
        """Virtual seconds."""
        return self._now_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """As asyncio's; the clock stands until it has ended."""
        future = super().run_in_executor(executor, func, *args)
        self._working += 1
        future.add_done_callback(self._worked)
        return future

    async def shutdown_default_executor(self) -> None:
        """As asyncio's, which has a thread of its own for it."""
        self._working += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._working -= 1

    def _worked(self, _: object) -> None:
        self._working -= 1

    def _idle(self, timer_s: float | None) -> bool:
        if self._working:
            self.thread_waits += 1
            return True
        assert timer_s is not None, "nothing is under way, and nothing will ever happen"
        self._now_s += timer_s
        self.jump_count += 1
        return False


def current() -> JumpingLoop | None:
    """The running loop, if it jumps."""
    loop = asyncio.get_running_loop()
    return loop if isinstance(loop, JumpingLoop) else None


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """As `asyncio.run`, in virtual time."""

    async def bounded() -> Result:
        async with asyncio.timeout(VIRTUAL_S_MAX):
            return await main

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(bounded())
