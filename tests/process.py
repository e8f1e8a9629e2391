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
    """A running `mana-llm serve`; what it said is in `said`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, simulator: Simulator, said: Path) -> None:
        self.process = process
        self.port = port
        self.simulator = simulator
        self.said = said

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return self._status("VmRSS")

    def rss_bytes_max(self) -> int:
        """The most resident memory that there ever was."""
        return self._status("VmHWM")

    def cpu_s(self) -> float:
        """Processor time until now, in the program and in the kernel."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def children(self) -> set[int]:
        """The processes that it started and that live."""
        file = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {int(pid) for pid in file.read_text(encoding="ascii").split()}

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@asynccontextmanager
async def served(folder: Path, stderr: int | None = None, **environment: str) -> AsyncIterator[Served]:
    """Run the gateway in `folder`; `environment` adds settings. It is killed if it still runs at the end.

    Its log goes to `stderr`, a file descriptor, or `asyncio.subprocess.PIPE`; else to the file `said`.
    """
    async with (
        Simulator(host="127.0.0.1", port=0) as simulator,
        start(folder, simulator, free_port(), stderr, **environment) as running,
    ):
        yield running


@asynccontextmanager
async def start(
    folder: Path, simulator: Simulator, port: int, stderr: int | None = None, **environment: str
) -> AsyncIterator[Served]:
    """The same before a simulator that is there already, on a port of the caller's choice.

    `ULIMIT_N` in the environment is how many files it may open, `ULIMIT_V` how many KiB of addresses it may have.
    """
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
    command = [sys.executable, "-m", "mana_llm", "serve"]
    limits = "".join(f'ulimit -{name[-1:].lower()} "${name}" && ' for name in settings if name.startswith("ULIMIT_"))
    if limits:
        command = ["/bin/sh", "-c", f'{limits}exec "$@"', "sh", *command]
    said = folder / f"said-{port}.txt"
    with said.open("ab") as told:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=settings, stdout=-3, stderr=told if stderr is None else stderr
        )
    try:
        await _ready(port, process)
        yield Served(process, port, simulator, said)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ready(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(READY_S):
        while True:
            assert process.returncode is None, "the gateway ended"
            with contextlib.suppress(ConnectionError):
                # Not /readyz: who asks for that is taken for a load balancer, for whom a stop takes longer.
                if (await call(port, "GET /livez")).status == 200:
                    return
            await asyncio.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
