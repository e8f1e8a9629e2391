"""`mana-llm health`, run as a user runs it beside a running gateway."""

import json
import os
import subprocess
import sys

from mana_llm.settings import Secret
from tests.world import world


def run(folder, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command in an empty folder, with nothing set but what is given."""
    return subprocess.run(
        [sys.executable, "-m", "mana_llm", "health", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_health_is_printed_when_a_gateway_runs(tmp_path):
    """The short form by itself; with `--all` every provider's facts, asked for with the caller's key."""
    with world(gpu_api_key=Secret("caller")) as running:
        chosen = {"PORT": str(running.port), "GPU_API_KEY": "caller"}
        short = json.loads(run(tmp_path, **chosen).stdout)
        assert (short["status"], short["providers"]["ollama"]) == ("healthy", "healthy")
        long = json.loads(run(tmp_path, "--all", **chosen).stdout)
        assert (long["status"], long["providers"]["ollama"]["state"]) == ("healthy", "healthy")


def test_health_ends_with_1_when_no_gateway_runs(tmp_path):
    """Container health checks read the exit code; people read why."""
    done = run(tmp_path, PORT="1")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
