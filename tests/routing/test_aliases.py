"""Aliases: what a file may say, what it may not, and what a name resolves to."""

import pytest

from mana_llm.routing.aliases import DIRECT_CHARS_MAX, DIRECT_ROUTES_MAX, AliasConfigError, AliasRegistry
from mana_llm.schema.errors import RequestError

DEFAULTS = {"ollama": "gemma3:4b", "openai": "", "openrouter": "", "google": "gemini-3.5-flash-lite"}
GOOD = """\
# A comment, so that lines do not begin at one.
aliases:
  mana/fast-text:
    description: Short answers
    chain: [ollama/gemma3:4b, openai/gpt-5.4-mini]
  mana/long-form:
    chain:
      - ollama/gemma3:12b
      - openrouter/meta-llama/llama-3.1-8b-instruct
default: mana/fast-text
"""


def registry(text: str = GOOD) -> AliasRegistry:
    return AliasRegistry(text, DEFAULTS, "ollama")


def labels(model: str) -> list[str]:
    return [target.label for target in registry().resolve(model).chain]


@pytest.mark.parametrize(
    ("model", "chain"),
    [
        ("", ["ollama/gemma3:4b", "openai/gpt-5.4-mini"]),
        ("mana/fast-text", ["ollama/gemma3:4b", "openai/gpt-5.4-mini"]),
        ("mana/long-form", ["ollama/gemma3:12b", "openrouter/meta-llama/llama-3.1-8b-instruct"]),
        ("openai/gpt-4o", ["openai/gpt-4o"]),
        ("openrouter/meta-llama/llama-3.1-8b-instruct", ["openrouter/meta-llama/llama-3.1-8b-instruct"]),
        ("openrouter/openai/gpt-4o", ["openrouter/openai/gpt-4o"]),
        ("gemma3:4b", ["ollama/gemma3:4b"]),
        ("library/gemma3:4b", ["ollama/library/gemma3:4b"]),
        ("hf.co/org/model:Q4", ["ollama/hf.co/org/model:Q4"]),
        ("ollama", ["ollama/gemma3:4b"]),
        ("google", ["google/gemini-3.5-flash-lite"]),
        ("gpt-4o", ["ollama/gpt-4o"]),
        ("OpenAI/gpt-4o", ["ollama/OpenAI/gpt-4o"]),
        ("manager", ["ollama/manager"]),
    ],
)
def test_name_resolves_by_the_rules_when_it_is_asked(model, chain):
    """Prefix to its provider, the rest whole; no known prefix to the local one; nothing to the default alias."""
    assert labels(model) == chain


def test_target_is_taken_apart_once_when_the_model_has_slashes():
    """Everything after the first slash is the model."""
    (target,) = registry().resolve("openrouter/a/b/c").chain
    assert (target.provider, target.model) == ("openrouter", "a/b/c")


def test_route_says_how_it_was_found_when_it_is_an_alias_or_not():
    """The route has the name as asked, the alias if it was one, and the version of the aliases."""
    aliases = registry()
    route = aliases.resolve("mana/long-form")
    assert (route.asked, route.alias, route.config) == ("mana/long-form", "mana/long-form", aliases.version)
    assert aliases.resolve("openai/x").alias is None
    assert aliases.resolve("").alias == "mana/fast-text"


@pytest.mark.parametrize(
    ("model", "near"), [("mana/fast-txt", "mana/fast-text"), ("mana/long", "mana/long-form"), ("mana/", "mana/")]
)
def test_unknown_alias_is_a_404_when_it_is_asked(model, near):
    """An unknown alias is the client's 404 and names the near ones."""
    with pytest.raises(RequestError) as caught:
        registry().resolve(model)
    error = caught.value
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert near in error.message


@pytest.mark.parametrize("model", ["openai", "openai/", "openrouter/", "google/", "ollama/"])
def test_provider_without_a_model_is_a_404_when_it_has_no_default(model):
    """A prefix alone names no model; the message says how to name one."""
    with pytest.raises(RequestError) as caught:
        registry().resolve(model)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert f"{model.rstrip('/')}/<model>" in caught.value.message


def test_message_is_short_and_plain_when_the_name_is_not():
    """A client's name is shown in ASCII and not beyond 80 characters."""
    with pytest.raises(RequestError) as caught:
        registry().resolve("mana/" + "é\r\n\x1b[31m" * 500)
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_memory_of_names_is_bounded_when_clients_make_them_up():
    """A flood of direct names is forgotten again; each still resolves."""
    aliases = registry()
    for number in range(3 * DIRECT_ROUTES_MAX):
        assert aliases.resolve(f"openai/{number}").chain[0].model == str(number)
    assert len(aliases.table._direct_routes) <= DIRECT_ROUTES_MAX
    long = "openai/" + "x" * DIRECT_CHARS_MAX
    assert aliases.resolve(long).chain[0].label == long
    assert long not in aliases.table._direct_routes


def test_version_changes_only_when_the_text_does():
    """The same text has the same version, another one another."""
    assert registry().version == registry().version
    assert registry().version != registry(GOOD + "\n").version


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


CHAIN = "chain: [ollama/gemma3:4b, openai/gpt-5.4-mini]"
REJECTED = {
    "an empty chain": (replaced(CHAIN, "chain: []"), 5, "mana/fast-text.chain"),
    "a chain that is a text": (replaced(CHAIN, "chain: ollama/gemma3:4b"), 5, "mana/fast-text.chain"),
    "no chain": (replaced("    " + CHAIN + "\n", ""), 3, "`chain` is missing"),
    "no provider prefix": (replaced("openai/gpt-5.4-mini", "gpt-5.4-mini"), 5, "no provider prefix"),
    "a prefix without a model": (replaced("openai/gpt-5.4-mini", "openai/"), 5, "no provider prefix"),
    "an unknown provider": (replaced("openai/gpt", "opnai/gpt"), 5, "Did you mean openai?"),
    "an alias outside mana/": (replaced("mana/long-form", "my/long-form"), 6, "begins with mana/"),
    "an alias without a name": (replaced("mana/long-form", "mana/"), 6, "begins with mana/"),
    "an alias inside a chain": (replaced("- ollama/gemma3:12b", "- mana/fast-text"), 8, "is an alias"),
    "an unknown default": (
        replaced("default: mana/fast-text", "default: mana/fast"),
        10,
        "Did you mean mana/fast-text?",
    ),
    "an unknown key in an alias": (replaced("description:", "descripton:"), 4, "Did you mean description?"),
    "an unknown key at the top": (GOOD + "defaults: x\n", 11, "Did you mean default?"),
    "an alias that stands twice": (replaced("mana/long-form", "mana/fast-text"), 6, "stands there twice"),
    "an entry that stands twice": (replaced("openai/gpt-5.4-mini", "ollama/gemma3:4b"), 5, "stands there twice"),
    "an entry that stands twice as latest": (
        replaced("gemma3:4b, openai/gpt-5.4-mini", "qwen3, ollama/qwen3:latest"),
        5,
        "'ollama/qwen3:latest' is 'ollama/qwen3', which stands there already",
    ),
    "an entry that stands twice without latest": (
        replaced("gemma3:4b, openai/gpt-5.4-mini", "qwen3:latest, ollama/qwen3"),
        5,
        "'ollama/qwen3' is 'ollama/qwen3:latest', which stands there already",
    ),
    **{
        f"an entry with {name}": (replaced("- ollama/gemma3:12b", f'- "{entry}"'), 8, f"{shown} has blanks at an end")
        for name, entry, shown in (
            ("a blank before it", " ollama/gemma3:12b", "' ollama/gemma3:12b'"),
            ("a blank behind it", "ollama/gemma3:12b ", "'ollama/gemma3:12b '"),
            ("a blank before its model", "ollama/ gemma3:12b", "'ollama/ gemma3:12b'"),
            ("a line break", "ollama/gemma3:12b\\n", r"'ollama/gemma3:12b\n'"),
            ("a line break within", "ollama/gemma3\\n:12b", r"'ollama/gemma3\n:12b'"),
            ("a tab", "ollama/gem\\tma3:12b", r"'ollama/gem\tma3:12b'"),
            ("a control character", "ollama/gem\\x9bma3:12b", r"'ollama/gem\x9bma3:12b'"),
        )
    },
    "a key that stands twice": (GOOD + "default: mana/long-form\n", 11, "stands there twice"),
    "no default": (replaced("default: mana/fast-text\n", ""), 1, "`default`"),
    "no default, and a key that is wrong": (
        replaced("default: mana/fast-text\n", "").replace("description:", "descripton:"),
        4,
        "Did you mean description? Besides, line 1: `default`",
    ),
    "no default, and an entry that is wrong": (
        replaced("default: mana/fast-text\n", "").replace("- ollama/gemma3:12b", "- olama/gemma3:12b"),
        8,
        "Did you mean ollama? Besides, line 1: `default`",
    ),
    "no aliases": ("default: mana/x\n", 1, "`aliases`"),
    "an empty file": ("", 1, "a mapping is needed"),
    "a list": ("- a\n", 1, "a mapping is needed"),
    "aliases that are none": ("aliases: []\ndefault: mana/x\n", 1, "aliases: a mapping is needed"),
    "an alias that is a text": ("aliases:\n  mana/x: ollama/y\ndefault: mana/x\n", 2, "mana/x: a mapping is needed"),
    "an entry that is a mapping": (replaced("- ollama/gemma3:12b", "- {ollama: gemma3}"), 8, "a text is needed"),
    "an empty entry": (replaced("- ollama/gemma3:12b", "- ''"), 8, "a text is needed"),
    "no YAML": ("aliases: [\n", 2, "not YAML"),
    "a tab": ("aliases:\n\tmana/x: 1\n", 2, "not YAML"),
    "a tag that runs code": (replaced(CHAIN, "chain: !!python/object/apply:os.getcwd []"), 5, "chain"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_file_is_rejected_with_its_line_when_it_is_wrong(name):
    """Each fault is named with its line, the key, and what would be right."""
    text, line, says = REJECTED[name]
    with pytest.raises(AliasConfigError) as caught:
        registry(text)
    assert str(caught.value).startswith(f"line {line}: ")
    assert says in str(caught.value)


def test_shipped_file_is_good_when_it_is_read():
    """The shipped aliases are accepted; each begins local and ends in a cloud."""
    from mana_llm.compose import aliases_source
    from mana_llm.providers.registry import entries
    from mana_llm.settings import Settings

    settings = Settings()
    known = {name: entry.default_model for name, entry in entries(settings).items()}
    aliases = AliasRegistry(aliases_source(settings)[1], known, "ollama")
    names = {alias.name for alias in aliases.aliases}
    assert names >= {"mana/fast-text", "mana/long-form", "mana/structured", "mana/reasoning", "mana/vision"}
    for alias in aliases.aliases:
        assert alias.description
        assert alias.chain[0].provider == "ollama"
        assert alias.chain[-1].provider != "ollama"
