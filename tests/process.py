"""The gateway as a process of its own, before a simulator in the test's loop."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mana_llm.simulator import Simulator
from tests.caller import call

READY_S = 20.0
CLOUDS = ("OPENAI", "OPENROUTER", "GROQ", "TOGETHER")


class Served:
    """A running `mana-llm serve`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, simulator: Simulator) -> None:
        self.process = process
        self.port = port
        self.simulator = simulator

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return self._status("VmRSS")

    def rss_bytes_max(self) -> int:
        """The most resident memory that there ever was."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@asynccontextmanager
async def served(folder: Path, stderr: int = asyncio.subprocess.DEVNULL, **environment: str) -> AsyncIterator[Served]:
    """Run the gateway in `folder`; `environment` adds settings. It is killed if it still runs at the end.

    Its log goes to `stderr`, a file descriptor, or `asyncio.subprocess.PIPE`.
    """
    async with Simulator(host="127.0.0.1", port=0) as simulator:
        port = _free_port()
        keys = {f"{name}_API_KEY": "simulated" for name in (*CLOUDS, "GOOGLE")}
        urls = {f"{name}_BASE_URL": simulator.openai_url for name in CLOUDS}
        settings = {
            "PORT": str(port),
            "OLLAMA_URL": simulator.ollama_url,
            "GOOGLE_BASE_URL": simulator.google_url,
            "PATH": os.environ["PATH"],
            **keys,
            **urls,
            **environment,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mana_llm", "serve", cwd=folder, env=settings, stdout=-3, stderr=stderr
        )
        try:
            await _ready(port)
            yield Served(process, port, simulator)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _ready(port: int) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            with contextlib.suppress(ConnectionError):
                if (await call(port, "GET /readyz")).status == 200:
                    return
            await asyncio.sleep(0.02)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
