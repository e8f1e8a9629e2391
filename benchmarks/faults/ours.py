"""Our own gateway as users run it, before the card's upstreams."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.faults.asking import Door
from benchmarks.faults.judge import Terms
from benchmarks.faults.upstreams import Upstreams
from benchmarks.processes import Process, free_ports
from benchmarks.stand import gateway_program

MODEL: Final = "mana/card"
_KEY: Final = "scorecard-caller"
_ALIASES: Final = f"""\
aliases:
  {MODEL}:
    chain: [openai/first, groq/second]
default: {MODEL}
"""


@asynccontextmanager
async def served(upstreams: Upstreams, folder: Path, terms: Terms, backoff_s: float) -> AsyncIterator[Door]:
    """`mana-llm serve` with the card's two limits and a back-off of `backoff_s`; all else is as shipped.

    Raises:
        ProcessError: if it does not start.
    """
    aliases = folder / "aliases.yaml"
    aliases.write_text(_ALIASES, encoding="utf-8")
    (port,) = free_ports(1)
    settings = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "GPU_API_KEY": _KEY,
        "ALIASES_PATH": str(aliases),
        "OLLAMA_URL": "",
        "OPENAI_API_KEY": "scorecard",
        "OPENAI_BASE_URL": upstreams.first.openai_url,
        "GROQ_API_KEY": "scorecard",
        "GROQ_BASE_URL": upstreams.second.openai_url,
        "MANA_LLM_TTFT_S": str(terms.first_token_s),
        "MANA_LLM_IDLE_S": str(terms.idle_s),
        "MANA_LLM_HEALTH_BACKOFF_S": str(backoff_s),
        "MANA_LLM_DRAIN_S": "0",
    }
    process = Process([gateway_program(), "serve"], None, folder / "gateway.log", settings)
    with contextlib.ExitStack() as stack:
        stack.callback(process.stop)
        # In a thread, because the upstreams live in this loop and may be asked meanwhile.
        await asyncio.to_thread(process.until_ready, port, "/livez")
        yield Door.at(f"http://127.0.0.1:{port}/v1", _KEY, MODEL)
