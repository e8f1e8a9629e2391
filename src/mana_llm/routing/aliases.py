"""Names that applications ask for, and the chains that they resolve to."""

import difflib
import hashlib
from bisect import bisect
from collections.abc import Callable, Mapping
from typing import Final, Literal

from mana_llm.routing.alias_file import Alias, AliasConfigError, read_aliases
from mana_llm.schema.errors import RequestError
from mana_llm.schema.targets import ALIAS_PREFIX, Route, Target, target_of

__all__ = ["Alias", "AliasConfigError", "AliasRegistry", "AliasTable"]

Kind = Literal["chat", "embeddings"]

DIRECT_ROUTES_MAX: Final = 1024
DIRECT_CHARS_MAX: Final = 256
"""Longer names are looked at anew each time: the memory of names is bounded in bytes too."""
_SHOWN_MAX: Final = 80
_NEAR_MAX: Final = 64
"""Names that an unknown alias is compared with; of more, those that begin most alike."""
_HINTS_MAX: Final = 3


class AliasTable:
    """What one text of the file says. It never changes: a reload puts another in its place.

    `version` is a digest of the text, `loaded_at` the Unix time at which it was read; `labels` are every alias and
    every chain entry, names that metrics may carry.
    """

    def __init__(self, text: str, providers: "Providers", loaded_at: float) -> None:
        self.version = version_of(text)
        self.loaded_at = loaded_at
        aliases, self.default = read_aliases(text, providers.defaults)
        self.aliases = tuple(aliases.values())
        self.labels = frozenset(aliases).union(target.label for each in self.aliases for target in each.chain)
        self._providers = providers
        self._sorted = sorted(aliases)
        self._routes: dict[Kind, dict[str, Route]] = {"chat": {}, "embeddings": {}}
        for alias in self.aliases:
            route = Route(alias.name, alias.chain, alias.name, self.version, alias.policy)
            self._routes[alias.policy.kind][alias.name] = route
        # A memory of what was worked out, not a part of what the file says.
        self._direct_routes: dict[str, Route] = {}

    def resolve(self, model: str, kind: Kind) -> Route:
        """As `AliasRegistry.resolve`."""
        route = self._routes[kind].get(model or self.default) or self._direct_routes.get(model)
        return route or self._found(model, kind)

    def route_of(self, alias: str) -> Route:
        """The route of an alias of either kind. Raises RequestError 404 for an unknown one."""
        route = self._routes["chat"].get(alias) or self._routes["embeddings"].get(alias)
        if route is None:
            raise RequestError(self._unknown(alias), status=404, code="model_not_found", param="alias")
        return route

    def _found(self, model: str, kind: Kind) -> Route:
        """The route of a name that is not in the tables."""
        if not model or model.startswith(ALIAS_PREFIX):
            raise self._refusal(model, kind)
        route = Route(model, (self._providers.direct(model),), None, self.version)
        if len(model) > DIRECT_CHARS_MAX:
            return route
        if len(self._direct_routes) >= DIRECT_ROUTES_MAX:
            # Names come from clients: the memory of them is bounded, and forgetting costs two microseconds.
            self._direct_routes.clear()
        self._direct_routes[model] = route
        return route

    def _refusal(self, model: str, kind: Kind) -> RequestError:
        name = model or self.default
        if name not in self._routes["chat"] and name not in self._routes["embeddings"]:
            return RequestError(self._unknown(name), status=404, code="model_not_found", param="model")
        if kind == "chat":
            instead = f"is for /v1/embeddings. For chat use {self.default}, or a model as provider/model."
        else:
            known = list(self._routes["embeddings"])[:_HINTS_MAX]
            instead = f"is for chat. For embeddings use {', '.join([*known, 'a model as provider/model'])}."
        which = f"The alias {name[:_SHOWN_MAX]!a}" if model else f"No model was named, and the default, {name},"
        return RequestError(f"{which} {instead}", code="wrong_alias_kind", param="model")

    def _unknown(self, model: str) -> str:
        asked, names = model[:_SHOWN_MAX], self._sorted
        if len(names) > _NEAR_MAX:
            middle = bisect(names, asked)
            names = names[max(0, middle - _NEAR_MAX // 2) : middle + _NEAR_MAX // 2]
        near = difflib.get_close_matches(asked, names, n=_HINTS_MAX, cutoff=0.4) or names[:_HINTS_MAX]
        return f"The alias {asked!a} does not exist. Did you mean {', '.join(near)}? GET /v1/models lists them."


class Providers:
    """What names without an alias go to. `defaults` holds every provider by name with the model that the bare name
    means ("" if none); `local` is the provider that names without a known prefix go to.
    """

    def __init__(self, defaults: Mapping[str, str], local: str) -> None:
        self.defaults = defaults
        self.local = local

    def direct(self, model: str) -> Target:
        """The one entry of a name that is no alias.

        Raises:
            RequestError: 404 if it names a provider and no model, and the provider has no default.
        """
        provider, slash, name = model.partition("/")
        if provider not in self.defaults:
            return target_of(self.local, model)
        name = name if slash else self.defaults[provider]
        if not name:
            example = f"{provider}/<model>"
            raise RequestError(f"`model` names no model; use {example}.", status=404, code="model_not_found")
        return target_of(provider, name)


class AliasRegistry:
    """Resolves the model that a client names, by the table that holds now.

    Whoever needs several facts that belong together takes `table` once: a reload replaces it between two looks. A
    request keeps the `Route` that it was given. For `defaults` and `local` see `Providers`; `wall_s` gives Unix time.

    Raises:
        AliasConfigError: if the text cannot be used.
    """

    def __init__(
        self, text: str, defaults: Mapping[str, str], local: str, wall_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._providers = Providers(defaults, local)
        self._wall_s = wall_s
        self.table = AliasTable(text, self._providers, wall_s())

    def reload(self, text: str) -> bool:
        """Take another text; whether it differed from the one that holds. May be called from another thread.

        Raises:
            AliasConfigError: if it cannot be used; then nothing has changed.
        """
        if version_of(text) == self.table.version:
            return False
        self.table = AliasTable(text, self._providers, self._wall_s())
        return True

    @property
    def version(self) -> str:
        """The digest of the text that holds now."""
        return self.table.version

    @property
    def default(self) -> str:
        """The alias that a request without a model is given."""
        return self.table.default

    @property
    def aliases(self) -> tuple[Alias, ...]:
        """Every alias, in the file's order."""
        return self.table.aliases

    def resolve(self, model: str, kind: Kind = "chat") -> Route:
        """The route for a model as a client names it; "" is the default alias. It costs the same for any number of
        aliases.

        Raises:
            RequestError: 404 for an unknown alias, naming the near ones; 400 for one that serves another `kind`.
        """
        return self.table.resolve(model, kind)


def version_of(text: str) -> str:
    """A digest of the file's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
