"""One of several processes that serve the same socket, as it knows itself."""

import asyncio
import contextlib
import signal
import socket
from pathlib import Path
from typing import Final

from mana_llm.compose import Application
from mana_llm.edge.server import Server
from mana_llm.observe.shared import Shared

READY: Final = b"r"
"""What a worker says to its parent, once: it serves."""
STOP_ACCEPTING: Final = b"T"
STOP: Final = b"I"
END_NOW: Final = b"N"
RELOAD: Final = b"H"
"""What a parent says to its workers: as SIGTERM, as SIGINT, as the second of them, as SIGHUP."""
WRITE_S: Final = 1.0
"""Seconds between two accounts to the others of what was counted."""


class Worker:
    """A worker's place and its `link` to the parent; `first` is the one that speaks for all at the start.

    `folder` is where the workers tell each other what they have counted.
    """

    def __init__(self, index: int, link: socket.socket, folder: Path, *, first: bool) -> None:
        self.index = index
        self.first = first
        self._link = link
        self._folder = folder

    async def accompany(self, application: Application, server: Server) -> None:
        """Say when it serves, do what the parent says, and account for what was counted; ends when cancelled."""
        loop = asyncio.get_running_loop()
        metrics, shared = application.metrics, Shared(self._folder, self.index)
        metrics.share(shared.merged)
        loop.add_reader(self._link, self._hear, loop, server)
        try:
            await server.began.wait()
            # A parent that is gone is noticed by the reader.
            with contextlib.suppress(OSError):
                self._link.send(READY)
            while True:
                shared.write(metrics.families())
                await asyncio.sleep(WRITE_S)
        finally:
            loop.remove_reader(self._link)
            shared.write(metrics.families())

    def _hear(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        try:
            said = self._link.recv(64)
        except OSError:
            said = b""
        if not said:
            # Nobody is left who would start it again or tell it to stop: it ends as if interrupted.
            loop.remove_reader(self._link)
            server.stop(accepting=False)
        for word in (said[at : at + 1] for at in range(len(said))):
            if word == END_NOW:
                server.end_now()
            elif word == RELOAD:
                signal.raise_signal(signal.SIGHUP)
            else:
                server.stop(accepting=word == STOP_ACCEPTING)
