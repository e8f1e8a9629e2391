"""`providers.yaml`: OpenAI-compatible servers that this installation adds, such as vLLM, llama.cpp or LM Studio.

providers:
  lab:                                  # its models are lab/<model>
    base_url: http://gpu-box:8000/v1    # version path included
    key_env: LAB_API_KEY                # the variable that holds the key, never the key; left out: no key is sent
    quirks: [max-tokens]                # see NAMED_QUIRKS; left out: as OpenAI
    max_concurrent: 4                   # requests that it is given at once; left out or 0: no limit
"""

import re
from collections.abc import Collection
from typing import Any, Final

import msgspec
import yaml

from mana_llm.kit.placed_yaml import YamlError, composed, entries_of, members_of, near, problem, text_of
from mana_llm.providers.compatible_quirks import EmbeddingQuirks, Quirks
from mana_llm.providers.concurrency import max_concurrent_of
from mana_llm.schema.targets import ALIAS_PREFIX
from mana_llm.settings import SettingsError, is_base_url

NAMED_QUIRKS: Final[dict[str, dict[str, Any]]] = {
    # Refuses `stream_options`; usage of its streams is unknown then.
    "no-stream-options": {"asks_usage": False},
    # Knows `max_tokens` and not `max_completion_tokens`.
    "max-tokens": {"renames": {"max_completion_tokens": "max_tokens"}},
    # Refuses reasoning in an assistant's message, or takes it under one name only.
    "refuses-reasoning": {"reasoning": "refused"},
    "takes-reasoning": {"reasoning": "reasoning"},
    "takes-reasoning-content": {"reasoning": "reasoning_content"},
    # Refuses `extra_content` (thought signatures) in messages and calls.
    "refuses-extra-content": {"extra_content": False},
    # Has no embeddings.
    "no-embeddings": {"embeddings": None},
    # Embeds one input per call.
    "one-embedding": {"embeddings": EmbeddingQuirks(inputs_max=1)},
    # Embeds texts, not tokens.
    "embeds-texts": {"embeddings": EmbeddingQuirks(tokens=False)},
}
# Such a server may stand before Google's models, or be their own OpenAI surface: signatures pass.
AS_OPENAI: Final = Quirks(extra_content=True)
_KEYS: Final = ("base_url", "key_env", "quirks", "max_concurrent")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Custom(msgspec.Struct, frozen=True):
    """One server of the file; `key_env` is "" where no key is sent."""

    name: str
    base_url: str
    key_env: str = ""
    quirks: Quirks = AS_OPENAI
    max_concurrent: int = 0


def custom_providers(text: str, source: str, taken: Collection[str]) -> list[Custom]:
    """The servers of the file `source`; `taken` are the names that it may not use.

    Raises:
        SettingsError: naming file, line and key, and the nearest right one.
    """
    try:
        root = composed(text)
        if root is None:
            return []
        top = members_of(root, "the file", ("providers",))
        if "providers" not in top:
            raise problem(root, "`providers` is missing.")
        rows = members_of(top["providers"][1], "providers")
        return [_custom(name, key, node, taken) for name, (key, node) in rows.items()]
    except YamlError as error:
        raise SettingsError(f"{source}: {error}") from error


def _custom(name: str, key: yaml.Node, node: yaml.Node, taken: Collection[str]) -> Custom:
    if not _NAME.fullmatch(name):
        raise problem(key, f"{name[:64]!r}: a name is of small letters, digits, `.`, `_` and `-`.")
    if name in taken or name == ALIAS_PREFIX.rstrip("/"):
        raise problem(key, f"{name!r} is a provider's name already; choose another.")
    members = members_of(node, name, _KEYS)
    if "base_url" not in members:
        raise problem(key, f"{name}: `base_url` is missing, such as http://localhost:8000/v1.")
    base_url = _base_url(name, members["base_url"][1])
    return Custom(name, base_url, _key_env(name, members), _quirks(name, members), _max_concurrent(name, members))


def _base_url(name: str, node: yaml.Node) -> str:
    text = text_of(node, f"{name}.base_url")
    if not is_base_url(text):
        raise problem(node, f"{name}.base_url: use a URL such as http://localhost:8000/v1 (no query, no password).")
    return text


def _key_env(name: str, members: dict[str, tuple[yaml.Node, yaml.Node]]) -> str:
    if "key_env" not in members:
        return ""
    node = members["key_env"][1]
    text = text_of(node, f"{name}.key_env")
    if not _VARIABLE.fullmatch(text):
        # It may be the key itself, which is shown nowhere.
        raise problem(node, f"{name}.key_env: name the variable that holds the key, such as LAB_API_KEY.")
    return text


def _max_concurrent(name: str, members: dict[str, tuple[yaml.Node, yaml.Node]]) -> int:
    if "max_concurrent" not in members:
        return 0
    node = members["max_concurrent"][1]
    found = max_concurrent_of(text_of(node, f"{name}.max_concurrent"))
    if found is None:
        raise problem(node, f"{name}.max_concurrent: use a whole number such as 4; 0 is no limit.")
    return found


def _quirks(name: str, members: dict[str, tuple[yaml.Node, yaml.Node]]) -> Quirks:
    if "quirks" not in members:
        return AS_OPENAI
    chosen: dict[str, Any] = {}
    for node in entries_of(members["quirks"][1], f"{name}.quirks: list at least one, or leave it out."):
        text = text_of(node, f"{name}.quirks")
        if text not in NAMED_QUIRKS:
            raise problem(node, f"{name}.quirks: {text!r} is no quirk. {near(text, NAMED_QUIRKS)}")
        if chosen.keys() & NAMED_QUIRKS[text].keys():
            raise problem(node, f"{name}.quirks: {text!r} contradicts another one.")
        chosen |= NAMED_QUIRKS[text]
    return msgspec.structs.replace(AS_OPENAI, **chosen)
