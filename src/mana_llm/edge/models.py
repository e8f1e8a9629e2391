"""`GET /v1/models` and `GET /v1/models/{id}`: the aliases first, then what every configured provider lists."""

from typing import Any

import msgspec

from mana_llm.edge.reply import Receive, Scope, Send, send_json
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.routing.models import ModelDirectory
from mana_llm.schema.errors import RequestError
from mana_llm.schema.models import Model
from mana_llm.schema.targets import target_of

OWNER = "mana-llm"


class ModelRoutes(msgspec.Struct, frozen=True):
    """The two routes. `since` is the `created` of aliases: the Unix time at which they were loaded."""

    aliases: AliasRegistry
    directory: ModelDirectory
    since: int

    async def listed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything that can be asked for."""
        await self.directory.refresh()
        await send_json(send, scope["exchange"], {"object": "list", "data": list(self._rows().values())})

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One of them; its id may hold `/` and `:`, encoded or not.

        Raises:
            RequestError: 404 if it is not there.
        """
        await self.directory.refresh()
        name = scope["rest"]
        row = self._rows().get(name)
        if row is None:
            message = f"The model {name[:128]!a} does not exist here. GET /v1/models lists what does."
            raise RequestError(message, status=404, code="model_not_found", param="model")
        await send_json(send, scope["exchange"], row)

    def _rows(self) -> dict[str, dict[str, Any]]:
        rows = {alias.name: _row(alias.name, self.since, OWNER) for alias in self.aliases.aliases}
        for provider, models in self.directory.lists().items():
            for model in models:
                label = target_of(provider, model.id).label
                rows[label] = {**_row(label, model.created, provider), **_extras(model)}
        return rows


def _row(name: str, created: int, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def _extras(model: Model) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if model.context_window:
        extras["context_window"] = model.context_window
    if model.capabilities:
        extras["capabilities"] = list(model.capabilities)
    return extras
