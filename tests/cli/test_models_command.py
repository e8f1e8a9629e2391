"""`mana-llm models` and the warnings of `mana-llm check`, run as a user runs them."""

import json
import os
import subprocess
import sys

import pytest

from tests.world import world

GONE = "aliases: {mana/a: {chain: [openai/gpt-4, google/gemini-3.5-flash-lite]}}\ndefault: mana/a\n"


def run(folder, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command in an empty folder, with nothing configured but what is given."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    if "PYTHONPATH" in kept:
        kept["PYTHONPATH"] = os.path.abspath(kept["PYTHONPATH"])  # noqa: PTH100 - the command runs elsewhere
    return subprocess.run(
        [sys.executable, "-m", "mana_llm", *arguments],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def urls():
    """The settings that point at a simulator, one provider that is dead among them."""
    with world() as running:
        yield {
            "OLLAMA_URL": running.simulator.ollama_url,
            "OPENAI_BASE_URL": running.simulator.openai_url,
            "OPENAI_API_KEY": "x",
            "GROQ_BASE_URL": "http://127.0.0.1:9/v1",
            "GROQ_API_KEY": "x",
        }


def test_models_are_printed_when_asked(tmp_path, urls):
    """Columns with what is known, and a line for who did not answer, without a gateway."""
    done = run(tmp_path, "models", **urls)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert lines["model"] == ["model", "context", "in", "out", "shutdown", "can"]
    assert lines["openai/gpt-4o-mini"][1:5] == ["128,000", "0.15", "0.6", "2027-01-14"]
    assert lines["mana/vision"][1:] == ["Text", "about", "images"]
    assert "ollama/gemma3:4b" in lines
    assert "groq did not answer: ProviderConnectError" in done.stderr
    assert "openai did not answer" not in done.stderr


def test_models_are_json_when_asked_for(tmp_path, urls):
    """`--json` is the list as GET /v1/models gives it, and nothing else on standard output."""
    done = run(tmp_path, "models", "--json", **urls)
    rows = {row["id"]: row for row in json.loads(done.stdout)["data"]}
    assert rows["openai/gpt-4o-mini"]["context_window"] == 128000
    assert "groq did not answer" in done.stderr


def test_models_end_clearly_when_the_aliases_are_bad(tmp_path):
    """A file that cannot be used is said in one line, without a trace."""
    (tmp_path / "aliases.yaml").write_text("aliases: {}\n")
    done = run(tmp_path, "models")
    assert done.returncode == 2
    assert done.stderr.startswith("mana-llm: ")
    assert "Traceback" not in done.stderr


def test_check_warns_when_a_chain_names_a_model_that_is_gone(tmp_path):
    """Alias, model and day are named; settings and aliases are still good."""
    (tmp_path / "aliases.yaml").write_text(GONE)
    done = run(tmp_path, "check")
    assert done.returncode == 0, done.stderr
    assert "Warning: mana/a: openai/gpt-4 was shut down on 2026-10-23." in done.stdout
    assert done.stdout.count("shut down") == 1


def test_table_warns_when_a_gateway_starts_with_a_model_that_is_gone(tmp_path, capsys):
    """The table at the start has a row for it."""
    from mana_llm.cli.found import tell_what_is_there

    with world(GONE, tmp_path) as running:
        running.run(lambda: tell_what_is_there(running.application, running.server, running.port))
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert ["mana/a", "warning", "openai/gpt-4 was shut down on 2026-10-23"] in lines
