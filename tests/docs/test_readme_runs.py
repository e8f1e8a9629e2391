"""What the README shows is run: its files, its lines to paste, and its promises about them."""

import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest

from mana_llm.providers.registry import LOCAL, entries
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.settings import load
from tests.docs.pages import README, blocks, text_of
from tests.world import World, world

SHOWN_URL = "http://localhost:3025/v1"
CURL_S = 20
HELLO = [{"role": "user", "content": "Hello"}]
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def _pasted(line: str, running: World) -> str:
    """A shell line of the README, sent to a gateway of ours; gives what it prints."""
    assert SHOWN_URL in line
    command = ["/bin/sh", "-c", line.replace(SHOWN_URL, running.v1)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=CURL_S).stdout


def _header(answer: str, name: str) -> str:
    found = re.search(rf"(?im)^{name}: (.+?)\r?$", answer)
    assert found, answer
    return found[1]


def _status(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=CURL_S).status
    except urllib.error.HTTPError as error:
        return error.code


def test_files_of_the_readme_are_understood_when_read_for_real(tmp_path):
    """The README's `.env` gives settings, and its aliases are parsed with all three entries configured."""
    (tmp_path / ".env").write_text(blocks(README, "sh")[1])
    settings = load({}, tmp_path / ".env")
    assert Path(settings.aliases_path).name in text_of(README).partition("```yaml")[0]
    known = entries(settings)
    registry = AliasRegistry(
        blocks(README, "yaml")[0], {name: entry.default_model for name, entry in known.items()}, LOCAL
    )
    (alias,) = registry.aliases
    assert [known[target.provider].provider is not None for target in alias.chain] == [True, True, True]
    assert registry.default == alias.name


@pytest.mark.skipif(not shutil.which("curl"), reason="the README's line is curl's, and this machine has none")
def test_curl_of_the_readme_falls_back_when_the_local_provider_fails(tmp_path):
    """The README's line is answered by Ollama, then by Groq in the second attempt, then by Groq alone."""
    line = blocks(README, "sh")[2]
    with world(blocks(README, "yaml")[0], tmp_path) as running:
        answers = [_pasted(line, running)]
        running.run(lambda: running.simulator.script("sim.status.code-503", path="/api/chat"))
        answers += [_pasted(line, running) for _ in range(3)]
    resolved = [_header(answer, "x-mana-llm-resolved") for answer in answers]
    assert resolved == ["ollama/gemma3:4b", *["groq/openai/gpt-oss-20b"] * 3]
    assert [_header(answer, "x-mana-llm-attempts") for answer in answers] == ["1", "2", "2", "1"]
    assert all(f"`{model}`" in text_of(README) for model in resolved)
    for name in ("x-mana-llm-config", "x-mana-llm-cache", "x-request-id"):
        assert _header(answers[0], name)


def test_python_of_the_readme_prints_an_answer_when_run(tmp_path, capsys):
    """The README's Python runs as it stands and prints who answered, and what."""
    code = blocks(README, "python")[0]
    assert SHOWN_URL in code
    with world(blocks(README, "yaml")[0], tmp_path) as running:
        exec(compile(code.replace(SHOWN_URL, running.v1), "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("ollama/gemma3:4b [simulated]")


def test_path_is_served_when_the_readme_names_it():
    """Every path of the README answers, and those that it calls not there yet do not."""
    told, _, not_there = text_of(README).partition("## Not there yet")
    paths = r"`(?:[A-Z]+ )?(/[a-z0-9/]+)`"
    with world() as running:
        for path in re.findall(paths, not_there):
            assert _status(running.url + path) == 404, path
        for path in re.findall(paths, told.replace("/etc/mana-llm/", "")):
            assert _status(running.url + path) != 404, path


@pytest.mark.parametrize("alias", ["mana/reasoning", "mana/structured", "mana/vision"])
def test_alias_does_what_it_is_for_when_asked(alias):
    """The shipped aliases take tools, a JSON format and images at their first entry, the local one."""
    wishes = {
        "mana/reasoning": {"tools": [TOOL]},
        "mana/structured": {"response_format": {"type": "json_object"}},
        "mana/vision": {"messages": PICTURE},
    }
    with world() as running:
        client = openai.OpenAI(base_url=running.v1, api_key="none", max_retries=0)
        answer = client.chat.completions.create(**{"model": alias, "messages": HELLO, **wishes[alias]})
    assert answer.model.startswith("ollama/")
