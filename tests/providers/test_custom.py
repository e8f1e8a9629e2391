"""`providers.yaml`: what it adds, and what it says when something in it is wrong."""

import re
from pathlib import Path

import pytest

from mana_llm.providers.custom import NAMED_QUIRKS, custom_providers
from mana_llm.providers.registry import entries
from mana_llm.settings import Secret, Settings, SettingsError, load

IN = "providers:\n  lab:\n"
AT = IN + "    base_url: http://a/v1\n"
LAB = """\
providers:
  lab:
    base_url: http://gpu-box:8000/v1
    key_env: LAB_KEY
    quirks: [max-tokens, no-embeddings]
  near:
    base_url: http://localhost:1234/v1
"""


def test_servers_are_added_when_the_file_names_them():
    """Each server is a provider of its own name, with its quirks; one that needs no key is configured at once."""
    lab, near = custom_providers(LAB, "providers.yaml", ())
    assert (lab.name, lab.base_url, lab.key_env) == ("lab", "http://gpu-box:8000/v1", "LAB_KEY")
    assert (dict(lab.quirks.renames), lab.quirks.embeddings) == ({"max_completion_tokens": "max_tokens"}, None)
    assert (near.key_env, near.quirks.asks_usage) == ("", True)


def test_key_comes_from_the_environment_when_the_file_names_its_variable(tmp_path):
    """The key is read from the variable, `.env` included, and never printed; without it the server is unconfigured."""
    unset = entries(Settings(), "providers.yaml", LAB)
    assert (unset["lab"].provider, unset["lab"].hint) == (None, "set LAB_KEY")
    assert unset["near"].provider is not None
    env = tmp_path / ".env"
    env.write_text("LAB_KEY=sk-secret\n")
    settings = load({}, env)
    found = entries(settings, "providers.yaml", LAB)["lab"].provider
    assert b"Bearer sk-secret" in found.encode_models().endpoint.headers
    assert "sk-secret" not in repr(settings)
    assert dict(settings.environment)["LAB_KEY"] == Secret("sk-secret")


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_nothing_is_added_when_the_file_is_empty(text):
    """An empty file adds nothing."""
    assert custom_providers(text, "providers.yaml", ()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            IN + "    key: sk-secret\n    base_url: http://a/v1\n",
            "line 3: lab: 'key' is not a key here. Did you mean key_env?",
        ),
        (IN + "    base_url: http://a/v1\n    key_env: sk-secret\n", "line 4: lab.key_env: name the variable"),
        (IN + "    base_ur: http://a/v1\n", "line 3: lab: 'base_ur' is not a key here. Did you mean base_url?"),
        (IN + "    base_url: gpu-box\n", "line 3: lab.base_url: use a URL"),
        (IN + "    quirks: [max-tokens]\n", "line 2: lab: `base_url` is missing"),
        (AT + "    quirks: [max-token]\n", "line 4: lab.quirks: 'max-token' is no quirk. Did you mean max-tokens?"),
        (AT + "    quirks: [takes-reasoning, refuses-reasoning]\n", "contradicts another one"),
        ("providers:\n  openai: {base_url: 'http://a/v1'}\n", "line 2: 'openai' is a provider's name already"),
        ("providers:\n  mana: {base_url: 'http://a/v1'}\n", "line 2: 'mana' is a provider's name already"),
        ("providers:\n  La/b: {base_url: 'http://a/v1'}\n", "line 2: 'La/b': a name is of small letters"),
        (
            "providers:\n  a: {base_url: 'http://a/v1'}\n  a: {base_url: 'http://a/v1'}\n",
            "line 3: providers: 'a' stands there twice.",
        ),
        ("servers: {}\n", "line 1: the file: 'servers' is not a key here."),
        ("- a\n", "line 1: the file: a mapping is needed."),
        ("providers: [\n", "not YAML"),
    ],
)
def test_file_is_refused_with_line_and_key_when_something_is_wrong(text, told):
    """The message names file, line and key, and what would be right; a key that was put in it is not shown."""
    with pytest.raises(SettingsError) as caught:
        entries(Settings(), "providers.yaml", text)
    assert str(caught.value).startswith("providers.yaml: ")
    assert told in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_settings_name_every_cloud_when_they_are_read():
    """Each cloud has a key and a base URL in the environment, and both are checked like any setting."""
    settings = load({"MISTRAL_API_KEY": "k", "DEEPINFRA_BASE_URL": "http://there/v1"})
    assert entries(settings)["mistral"].provider is not None
    assert settings.deepinfra_base_url == "http://there/v1"
    with pytest.raises(SettingsError, match="XAI_BASE_URL is not a base URL"):
        load({"XAI_BASE_URL": "there"})


def test_quirk_is_told_when_the_page_lists_them():
    """docs/providers.md names every quirk and every provider, and its example is a good file."""
    page = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
    quirks, providers = page.partition("| quirk |")[2], page.partition("| quirk |")[0]
    assert set(re.findall(r"^\| `([a-z-]+)`", quirks, re.MULTILINE)) == set(NAMED_QUIRKS)
    assert set(entries(Settings())) <= set(re.findall(r"`([a-z]+)`", providers))
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (lab,) = custom_providers(example, "providers.yaml", ())
    assert (lab.name, lab.key_env) == ("lab", "LAB_TOKEN")
