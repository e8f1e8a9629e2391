"""SIGHUP, which usually ends a process, as a wish that is told to the event loop."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def hangups(told: Callable[[], None]) -> Iterator[None]:
    """Have `told` called in the running loop at every SIGHUP. Nothing happens where there is no such signal, or
    outside the main thread, where signals cannot be listened to.
    """
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before or signal.SIG_DFL)
