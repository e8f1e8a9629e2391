"""Names that applications ask for, and the chains that they resolve to."""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import yaml

from mana_llm.kit.placed_yaml import YamlError, composed, entries_of, members_of, near, problem, text_of
from mana_llm.schema.errors import RequestError
from mana_llm.schema.targets import ALIAS_PREFIX, Route, Target, target_of

DIRECT_ROUTES_MAX: Final = 1024
_FILE_KEYS: Final = ("aliases", "default")
_ALIAS_KEYS: Final = ("description", "chain")


class AliasConfigError(ValueError):
    """The aliases file cannot be used; the message names line and key and what would be right."""


class Alias:
    """One alias: what it is for, and its chain."""

    def __init__(self, name: str, description: str, chain: tuple[Target, ...]) -> None:
        self.name = name
        self.description = description
        self.chain = chain


class AliasRegistry:
    """Resolves the model that a client names.

    `defaults` holds every provider by name with the model that the bare name means ("" if none); `local` is the
    provider that names without a known prefix go to. `version` is a digest of the file.
    """

    def __init__(self, text: str, defaults: Mapping[str, str], local: str) -> None:
        self.version = hashlib.sha256(text.encode()).hexdigest()[:12]
        self._defaults = defaults
        self._local = local
        self._aliases, self.default = _read(text, defaults)
        self._routes = {name: Route(name, alias.chain, name, self.version) for name, alias in self._aliases.items()}

        self._direct_routes: dict[str, Route] = {}

    @property
    def aliases(self) -> Iterable[Alias]:
        """Every alias, in the file's order."""
        return self._aliases.values()

    def labels(self) -> set[str]:
        """Every alias and every chain entry: names that metrics may carry."""
        entries = {target.label for alias in self._aliases.values() for target in alias.chain}
        return entries | set(self._aliases)

    def resolve(self, model: str) -> Route:
        """The route for a model as a client names it; "" is the default alias.

        Raises:
            RequestError: 404 for an unknown alias, naming the near ones.
        """
        route = self._routes.get(model or self.default) or self._direct_routes.get(model)
        if route:
            return route
        if model.startswith(ALIAS_PREFIX):
            raise RequestError(self._unknown(model), status=404, code="model_not_found", param="model")
        route = Route(model, (self._direct(model),), None, self.version)
        if len(self._direct_routes) >= DIRECT_ROUTES_MAX:
            # Names come from clients: the memory of them is bounded, and forgetting costs two microseconds.
            self._direct_routes.clear()
        self._direct_routes[model] = route
        return route

    def _direct(self, model: str) -> Target:
        provider, slash, name = model.partition("/")
        if provider in self._defaults:
            name = name if slash else self._defaults[provider]
            if not name:
                example = f"{provider}/<model>"
                raise RequestError(f"`model` names no model; use {example}.", status=404, code="model_not_found")
            return target_of(provider, name)
        return target_of(self._local, model)

    def _unknown(self, model: str) -> str:
        near = difflib.get_close_matches(model, self._aliases, n=3, cutoff=0.4) or list(self._aliases)
        shown = ascii(model[:80])
        return f"The alias {shown} does not exist. Did you mean {', '.join(near)}? GET /v1/models lists them."


def _read(text: str, providers: Mapping[str, str]) -> tuple[dict[str, Alias], str]:
    """Parse the file.

    Raises:
        AliasConfigError: naming line and key.
    """
    try:
        return _parsed(composed(text), providers)
    except YamlError as error:
        raise AliasConfigError(str(error)) from error


def _parsed(root: yaml.Node | None, providers: Mapping[str, str]) -> tuple[dict[str, Alias], str]:
    top = members_of(root, "the file", _FILE_KEYS)
    if "aliases" not in top or "default" not in top:
        raise problem(None, "both `aliases` and `default` are needed.")
    aliases = {}
    for name, (key, node) in members_of(top["aliases"][1], "aliases").items():
        aliases[name] = _alias(name, key, node, providers)
    default = text_of(top["default"][1], "default")
    if default not in aliases:
        raise problem(top["default"][1], f"default: {default!r} is no alias here. {near(default, aliases)}")
    return aliases, default


def _alias(name: str, key: yaml.Node, node: yaml.Node, providers: Mapping[str, str]) -> Alias:
    if not name.startswith(ALIAS_PREFIX) or name == ALIAS_PREFIX:
        raise problem(key, f"{name!r}: an alias begins with {ALIAS_PREFIX}, such as {ALIAS_PREFIX}fast-text.")
    members = members_of(node, name, _ALIAS_KEYS)
    if "chain" not in members:
        raise problem(key, f"{name}: `chain` is missing; list provider/model entries.")
    chain: list[Target] = []
    for entry in entries_of(members["chain"][1], f"{name}.chain: list at least one provider/model entry."):
        target = _entry(name, entry, providers)
        if target in chain:
            raise problem(entry, f"{name}.chain: {target.label!r} stands there twice.")
        chain.append(target)
    description = text_of(members["description"][1], name) if "description" in members else ""
    return Alias(name, description, tuple(chain))


def _entry(alias: str, node: yaml.Node, providers: Mapping[str, str]) -> Target:
    text = text_of(node, f"{alias}.chain")
    provider, slash, model = text.partition("/")
    if text.startswith(ALIAS_PREFIX):
        raise problem(node, f"{alias}.chain: {text!r} is an alias; a chain holds provider/model entries.")
    if not slash or not model:
        raise problem(node, f"{alias}.chain: {text!r} has no provider prefix; write provider/model.")
    if provider not in providers:
        raise problem(node, f"{alias}.chain: {provider!r} is no provider. {near(provider, providers)}")
    return target_of(provider, model)
