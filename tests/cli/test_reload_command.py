"""`mana-llm reload`, `check` and `schema`, run as a user runs them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import world

GOOD = "aliases: {mana/a: {chain: [ollama/sim.ok]}}\ndefault: mana/a\n"
BAD = "aliases:\n  mana/a:\n    chain: [ollama/sim.ok]\n    ttft_s: soon\ndefault: mana/a\n"
DOUBTFUL = """\
aliases:
  mana/a: {chain: [ollama/x], hedge_after_s: 1}
  mana/b: {chain: [groq/x, ollama/x], ttft_s: 9, total_s: 5}
  mana/c: {chain: [groq/x]}
default: mana/a
"""


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mana_llm", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_reload_prints_the_version_when_the_file_is_good(tmp_path):
    """The new version, or that nothing changed; the caller's key of the settings opens the door."""
    from mana_llm.settings import Secret

    with world(GOOD, tmp_path, gpu_api_key=Secret("sesame")) as running:
        environment = {"PORT": str(running.port), "GPU_API_KEY": "sesame"}
        same = run(tmp_path, "reload", **environment)
        (tmp_path / "aliases.yaml").write_text(GOOD + "# another\n")
        other = run(tmp_path, "reload", **environment)
        version = running.application.aliases.version
        stranger = run(tmp_path, "reload", PORT=str(running.port))
    assert (same.returncode, same.stdout.partition(";")[0]) == (0, "Nothing changed")
    assert (other.returncode, other.stdout) == (0, f"The aliases are now at version {version}.\n")
    assert stranger.returncode == 1
    assert stranger.stderr.startswith("mana-llm: No valid API key was given.")


def test_reload_says_what_is_wrong_when_the_file_is_bad(tmp_path):
    """File, line, key and what would be right on standard error, and exit code 1."""
    with world(GOOD, tmp_path) as running:
        (tmp_path / "aliases.yaml").write_text(BAD)
        done = run(tmp_path, "reload", PORT=str(running.port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"mana-llm: {tmp_path}/aliases.yaml: line 4: mana/a.ttft_s: 'soon' will not do; "
        "write a number above 0 and up to 86400, such as 5 or 0.5.\n"
    )


@pytest.mark.parametrize("word", ["reload", "health"])
def test_command_ends_with_one_when_no_gateway_answers(tmp_path, word):
    """It says which address does not answer, and what that may mean."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = run(tmp_path, word, PORT=str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f":{port}/" in done.stderr
    assert done.stderr.endswith("Is the gateway running?\n")


def test_check_says_what_is_wrong_when_a_policy_is_bad(tmp_path):
    """One line with file, line, key and what would be right; exit code 2, as for any start that would fail."""
    (tmp_path / "aliases.yaml").write_text(BAD)
    done = run(tmp_path, "check")
    assert done.returncode == 2
    assert done.stderr.startswith("mana-llm: aliases.yaml: line 4: mana/a.ttft_s: 'soon' will not do")
    assert done.stderr.count("\n") == 1


def test_check_warns_when_a_policy_can_do_nothing(tmp_path):
    """What is allowed and pointless is warned about, alias by alias, and the file is still good."""
    (tmp_path / "aliases.yaml").write_text(DOUBTFUL)
    done = run(tmp_path, "check")
    warnings = [line for line in done.stdout.splitlines() if line.startswith("Warning: ")]
    assert done.returncode == 0
    assert [line.removeprefix("Warning: ")[:8] for line in warnings] == ["mana/a: ", "mana/b: ", "mana/c: "]
    assert "Aliases are good: 3 in aliases.yaml." in done.stdout


def test_schema_is_printed_when_somebody_keeps_a_file_elsewhere(tmp_path):
    """The shipped JSON Schema, byte for byte, and nothing else."""
    done = run(tmp_path, "schema")
    assert done.returncode == 0
    assert json.loads(done.stdout)["title"] == "mana-llm aliases"
    assert done.stdout == (Path(__file__).parents[2] / "aliases.schema.json").read_text(encoding="utf-8")
