"""The test stand: a provider, the gateway in front of it as users run it, and nginx in the gateway's place."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks import mocks, payloads
from benchmarks.processes import Process, free_ports

ROOT: Final = Path(__file__).resolve().parents[1]


class Stand:
    """Starts what a scenario needs, on two cores, with files in a folder of their own."""

    def __init__(self, folder: Path, cores: tuple[int, int]) -> None:
        self.folder = folder
        self.load_core, self._core = cores
        self._started = 0

    @contextlib.contextmanager
    def provider(self) -> Iterator[dict[str, int]]:
        """Every kind of provider; gives the port of each, by name."""
        plain, image, batched, paced = free_ports(4)
        ports = {"plain": plain, "image": image, "batched": batched}
        nginx = self._start(mocks.provider_command(self.folder / "provider", ports), self.load_core)
        with nginx, self._start(mocks.pacer_command(paced), self.load_core, PYTHONPATH=str(ROOT)) as pacer:
            nginx.until_ready(plain, "/v1/models")
            pacer.until_ready(paced, "/v1/models")
            yield {**ports, "paced": paced}

    def gateway(self, port: int, upstream: int) -> Process:
        """`mana-llm serve` with authentication, health and metrics on, before `upstream`. Not waited for."""
        return self._start(
            [gateway_program(), "serve"],
            self._core,
            HOST="127.0.0.1",
            PORT=str(port),
            GPU_API_KEY=payloads.CALLER_KEY,
            OPENAI_API_KEY="benchmark-provider",
            OPENAI_BASE_URL=f"http://127.0.0.1:{upstream}/v1",
            OLLAMA_URL=f"http://127.0.0.1:{upstream}",
            GOOGLE_API_KEY="benchmark-provider",
            GOOGLE_BASE_URL=f"http://127.0.0.1:{upstream}",
        )

    def proxy(self, port: int, upstream: int, *, streams: bool) -> Process:
        """`proxy_pass` of nginx in the gateway's place. Not waited for."""
        folder = self.folder / f"proxy-{port}"
        return self._start(mocks.proxy_command(folder, port, upstream, streams=streams), self._core)

    def measured(self, command: list[str]) -> Process:
        """Any command on the gateway's core."""
        return self._start(command, self._core)

    def _start(self, command: list[str], core: int, **environment: str) -> Process:
        self._started += 1
        name = f"{Path(command[0]).name}-{self._started}"
        # Nothing of the caller's environment: a proxy or a key in it would change what is measured.
        base = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        return Process(command, core, self.folder / f"{name}.log", {**base, **environment})


def gateway_program() -> str:
    """The command that users run, from the environment that runs us."""
    return str(Path(sys.executable).with_name("mana-llm"))
