"""The aliases file: which keys it has, and how it is read.

The table of keys is the only list of them: the JSON Schema and the documentation are made from it.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec
import yaml

from mana_llm.kit.placed_yaml import (
    Members,
    YamlError,
    choice_of,
    composed,
    entries_of,
    members_of,
    near,
    number_of,
    problem,
    shown,
    string_of,
    text_of,
)
from mana_llm.schema import errors
from mana_llm.schema.targets import ALIAS_PREFIX, DEFAULT_POLICY, Policy, Target, target_of

FILE_KEYS: Final = ("aliases", "default")
ALIAS_NAME: Final = rf"^{ALIAS_PREFIX}[^\s\x00-\x1f\x7f]+$"
_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f"
ENTRY: Final = rf"^(?!{ALIAS_PREFIX})(?!\s)[^/{_CONTROLS}]+/(?!\s)[^{_CONTROLS}]*[^\s{_CONTROLS}]$"
SECONDS_MAX: Final = 86_400
"""A day: nobody waits longer for an answer, and timers keep their precision."""
FALLBACK_ERRORS: Final = tuple(
    kind.__name__
    for kind in (
        errors.ProviderAuthError,
        errors.ProviderBlockedError,
        errors.ProviderTruncatedError,
        errors.ProviderCapabilityError,
        errors.ProviderRequestError,
    )
)
"""The errors that usually end the walk; an alias may name those after which its chain goes on."""
_CONTROL: Final = re.compile(f"[{_CONTROLS}]")
_LATEST: Final = "latest"
"""The tag that a name without one has, wherever models have tags."""
_SIZE: Final = re.compile(r"\d+(?:\.\d+)?[mb]")
_QUANTISATION: Final = re.compile(r"i?q\d\w*|b?f(?:p)?\d+|(?:mx|nv)fp\d|int\d|qat")


class AliasConfigError(ValueError):
    """The aliases file cannot be used; the message names line and key and what would be right."""


class Alias(msgspec.Struct, frozen=True):
    """One alias: what it is for, its chain, and what it asks of the walk."""

    name: str
    description: str
    chain: tuple[Target, ...]
    policy: Policy = DEFAULT_POLICY


class Key(msgspec.Struct, frozen=True):
    """One key of an alias: the form of its value, what it does, and what holds where it is left out."""

    form: Literal["text", "entries", "seconds", "choice", "choices"]
    help: str
    default: str
    choices: tuple[str, ...] = ()


KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "description": Key("text", "What the alias is for; `GET /v1/models` shows it.", "none"),
        "chain": Key("entries", "What is asked, as provider/model, in this order until one answers.", "needed"),
        "kind": Key(
            "choice",
            "What the alias serves: chat completions, or embeddings. The entries of an embeddings alias name one "
            "and the same model at several providers, because vectors of different models do not mix.",
            "chat",
            ("chat", "embeddings"),
        ),
        "ttft_s": Key(
            "seconds",
            "Wait for a place at an entry and for its first token, in one; then the next entry is asked. Of an "
            "answer that is not streamed it bounds the whole, which comes at once.",
            "MANA_LLM_TTFT_S",
        ),
        "idle_s": Key("seconds", "Silence allowed within an answer.", "MANA_LLM_IDLE_S"),
        "total_s": Key("seconds", "The whole request, fallbacks included.", "MANA_LLM_TOTAL_S"),
        "hedge_after_s": Key(
            "seconds",
            "When the next entry is asked as well, because the first has not spoken; who speaks first answers. "
            "Less than `ttft_s` and `total_s`, where these are given.",
            "never",
        ),
        "on_incapable": Key(
            "choice",
            "What becomes of an entry that cannot do what a request needs (tools, images ...): the request ends with "
            "an error, or the entry is skipped.",
            "error",
            ("error", "skip"),
        ),
        "fallback_on": Key(
            "choices",
            "Errors after which the next entry is asked, although they usually end the request.",
            "none",
            FALLBACK_ERRORS,
        ),
    }
)


def read_aliases(text: str, providers: Mapping[str, str]) -> tuple[dict[str, Alias], str]:
    """The aliases by name, in the file's order, and the default's name.

    Raises:
        AliasConfigError: naming line and key.
    """
    try:
        return _parsed(composed(text), providers)
    except YamlError as error:
        raise AliasConfigError(str(error)) from error


def _parsed(root: yaml.Node | None, providers: Mapping[str, str]) -> tuple[dict[str, Alias], str]:
    top = members_of(root, "the file", FILE_KEYS)
    if "aliases" not in top:
        raise problem(None, "both `aliases` and `default` are needed.")
    missing = problem(None, "`default` is needed, too: the alias of requests that name no model.")
    try:
        aliases = _aliases(top["aliases"][1], providers)
    except YamlError as error:
        if "default" in top:
            raise
        # What is missing has no line of its own, and is no reason to keep silent about the others.
        raise YamlError(f"{error} Besides, {missing}") from error
    if "default" not in top:
        raise missing
    node = top["default"][1]
    default = text_of(node, "default")
    if default not in aliases:
        raise problem(node, f"default: {shown(default)} is no alias here. {near(default, aliases)}")
    if aliases[default].policy.kind != "chat":
        raise problem(node, f"default: {shown(default)} is of kind embeddings; the default answers chat.")
    return aliases, default


def _aliases(node: yaml.Node, providers: Mapping[str, str]) -> dict[str, Alias]:
    rows = members_of(node, "aliases")
    if not rows:
        raise problem(node, f"aliases: at least one is needed, such as {ALIAS_PREFIX}fast-text.")
    return {name: _alias(name, key, value, providers) for name, (key, value) in rows.items()}


def _alias(name: str, key: yaml.Node, node: yaml.Node, providers: Mapping[str, str]) -> Alias:
    if not re.fullmatch(ALIAS_NAME, name):
        example = f"{ALIAS_PREFIX}fast-text"
        raise problem(key, f"{shown(name)}: an alias begins with {ALIAS_PREFIX}, such as {example}, without spaces.")
    members = members_of(node, name, KEYS)
    if "chain" not in members:
        raise problem(key, f"{name}: `chain` is missing; list provider/model entries.")
    chain = _chain(name, members["chain"][1], providers)
    description = string_of(members["description"][1], f"{name}.description") if "description" in members else ""
    policy = _policy(name, members)
    if policy.kind == "embeddings":
        _one_model(name, members["chain"][1], chain)
    return Alias(name, description, chain, policy)


def _chain(alias: str, node: yaml.Node, providers: Mapping[str, str]) -> tuple[Target, ...]:
    chain: dict[str, Target] = {}
    for entry in entries_of(node, f"{alias}.chain: list at least one provider/model entry."):
        target = _entry(alias, entry, providers)
        known = chain.setdefault(target.label.removesuffix(f":{_LATEST}"), target)
        if known is not target:
            again = "stands there twice" if known == target else f"is {shown(known.label)}, which stands there already"
            raise problem(entry, f"{alias}.chain: {shown(target.label)} {again}.")
    return tuple(chain.values())


def _entry(alias: str, node: yaml.Node, providers: Mapping[str, str]) -> Target:
    text = text_of(node, f"{alias}.chain")
    provider, slash, model = text.partition("/")
    if text != text.strip() or model != model.lstrip() or _CONTROL.search(text):
        why = "has blanks at an end or control characters; write provider/model and nothing else"
        raise problem(node, f"{alias}.chain: {shown(text)} {why}.")
    if text.startswith(ALIAS_PREFIX):
        raise problem(node, f"{alias}.chain: {shown(text)} is an alias; a chain holds provider/model entries.")
    if not slash or not model:
        raise problem(node, f"{alias}.chain: {shown(text)} has no provider prefix; write provider/model.")
    if provider not in providers:
        raise problem(node, f"{alias}.chain: {shown(provider)} is no provider. {near(provider, providers)}")
    return target_of(provider, model)


def _policy(alias: str, members: Members) -> Policy:
    """What the keys beside the chain say. Raises YamlError where they contradict each other."""
    given = {
        name: _value(KEYS[name], node, f"{alias}.{name}")
        for name, (_, node) in members.items()
        if name not in ("chain", "description")
    }
    policy = Policy(**given) if given else DEFAULT_POLICY
    if policy.hedge_after_s is not None:
        node = members["hedge_after_s"][1]
        for name, end_s in (("ttft_s", policy.ttft_s), ("total_s", policy.total_s)):
            if end_s is not None and policy.hedge_after_s >= end_s:
                why = f"after {end_s:g} s ({name}) the first entry is left anyway, so the hedge would never begin"
                raise problem(node, f"{alias}.hedge_after_s: {policy.hedge_after_s:g} is too late: {why}.")
    return policy


def _value(key: Key, node: yaml.Node, where: str) -> Any:
    if key.form == "seconds":
        return number_of(node, where, SECONDS_MAX)
    if key.form == "choice":
        return choice_of(node, where, key.choices)
    found: list[str] = []
    for each in entries_of(node, f"{where}: list at least one of {', '.join(key.choices)}, or leave it out."):
        name = text_of(each, where)
        kind = getattr(errors, name, None)
        if (
            isinstance(kind, type)
            and issubclass(kind, errors.ProviderError)
            and kind.walks_on
            and kind.__name__ == name
        ):
            raise problem(each, f"{where}: after {name} the next entry is asked anyway; leave it out.")
        if choice_of(each, where, key.choices) in found:
            raise problem(each, f"{where}: {shown(name)} stands there twice.")
        found.append(name)
    return frozenset(found)


def _one_model(alias: str, node: yaml.Node, chain: tuple[Target, ...]) -> None:
    """Raises YamlError if the entries name several models, or one model in several sizes or versions."""
    (name, size, version), first = _model_of(chain[0]), chain[0]
    for entry, target in zip(entries_of(node, alias), chain, strict=True):
        other, other_size, other_version = _model_of(target)
        if other != name or _differ(size, other_size) or _differ(version, other_version):
            raise problem(
                entry,
                f"{alias}.chain: {shown(first.label)} and {shown(target.label)} are different models, whose vectors "
                "do not mix; an alias of kind embeddings names one model at several providers.",
            )
        size, version = size or other_size, version or other_version


def _differ(one: str, other: str) -> bool:
    """Whether both are said, and not alike."""
    return bool(one and other and one != other)


def _model_of(target: Target) -> tuple[str, str, str]:
    """The model without provider, vendor and tag; of the tag the size, and what else it says but for `latest` and a
    quantisation, which is a version ("" if nothing); in small letters.
    """
    name, _, tag = target.model.casefold().rpartition("/")[2].partition(":")
    words = [word for word in tag.split("-") if word != _LATEST and not _QUANTISATION.fullmatch(word)]
    size = next((word for word in words if _SIZE.fullmatch(word)), "")
    return name, size, "-".join(word for word in words if not _SIZE.fullmatch(word))
