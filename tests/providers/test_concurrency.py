"""How many requests a provider is given at once, and what is said of a limit that cannot be."""

import pytest

from mana_llm.providers.custom import custom_providers
from mana_llm.providers.registry import entries
from mana_llm.settings import SettingsError, load

LAB = "providers:\n  lab:\n    base_url: http://gpu-box:8000/v1\n    max_concurrent: 4\n"


def limits(environ: dict[str, str], text: str = "") -> dict[str, int]:
    found = entries(load(environ), "providers.yaml", text)
    return {name: entry.max_concurrent for name, entry in found.items() if entry.max_concurrent}


def test_only_the_local_box_is_limited_when_nothing_is_set():
    """Ollama is given three requests at once; clouds have no limit."""
    assert limits({}) == {"ollama": 3}


def test_limits_are_set_when_they_are_named():
    """Every provider can be limited, one of providers.yaml in the file or in the environment, which wins."""
    environ = {"OLLAMA_MAX_CONCURRENT": "0", "MANA_LLM_MAX_CONCURRENT": "groq=10, google = 2,lab=5,"}
    assert limits(environ, LAB) == {"groq": 10, "google": 2, "lab": 5}
    assert limits({}, LAB) == {"ollama": 3, "lab": 4}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("grok=10", "'grok' is not a provider. Did you mean groq?"),
        ("lab=10", "'lab' is not a provider."),
        ("groq", "'groq' is not provider=number"),
        ("groq=", "'groq=' is not provider=number"),
        ("groq=-1", "'groq=-1' is not provider=number"),
        ("groq=1.5", "'groq=1.5' is not provider=number"),
        ("groq=\u0663", "is not provider=number"),
        ("groq=10000000", "is not provider=number"),
        ("groq=1,groq=2", "groq stands there twice"),
        ("ollama=1", "use OLLAMA_MAX_CONCURRENT for ollama"),
    ],
)
def test_limit_is_refused_when_it_cannot_be(rows, told):
    """The message names the setting, the row, and what would be right."""
    with pytest.raises(SettingsError) as caught:
        limits({"MANA_LLM_MAX_CONCURRENT": rows})
    assert str(caught.value).startswith("MANA_LLM_MAX_CONCURRENT: ")
    assert told in str(caught.value)


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "[4]"])
def test_file_is_refused_when_its_limit_is_no_number(value):
    """The message names the line and the key."""
    with pytest.raises(SettingsError, match=r"line 4: lab.max_concurrent: "):
        custom_providers(LAB.replace("4", value), "providers.yaml", ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLLAMA_MAX_CONCURRENT", "-1"),
        ("OLLAMA_MAX_CONCURRENT", "few"),
        ("MANA_LLM_QUEUE_MAX", "-1"),
        ("MANA_LLM_QUEUE_S", "-0.5"),
        ("MANA_LLM_QUEUE_S", "inf"),
    ],
)
def test_setting_is_refused_when_it_is_no_limit(name, value):
    """A negative, endless or unreadable limit stops the start with the setting's name."""
    with pytest.raises(SettingsError, match=name):
        load({name: value})


def test_batch_keys_are_callers_keys_and_secret_when_they_are_set():
    """A batch key lets its caller in like any other key, and is shown nowhere."""
    settings = load({"MANA_LLM_BATCH_KEYS": "night-shift, reports"})
    assert [key.reveal() for key in settings.caller_keys] == ["night-shift", "reports"]
    assert "night-shift" not in repr(settings)
