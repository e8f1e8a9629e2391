"""What can be asked for: the aliases, and the models that every configured provider lists."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

from mana_llm.ports import Clock, ProviderEntry, Transport
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.schema.errors import ProviderError
from mana_llm.schema.models import Model
from mana_llm.schema.targets import target_of
from mana_llm.schema.wire import Limits

LISTS_S: Final = 2.0
"""Seconds that callers wait for the providers' lists, counted from the first call."""
FRESH_S: Final = 300.0
"""Seconds until a list is asked for again."""
RETRY_S: Final = 15.0
"""Seconds until a provider whose list did not come is asked again."""
MODELS_MAX: Final = 10_000
LIST_BYTES_MAX: Final = 16 * 1024 * 1024


class ModelDirectory:
    """The providers' lists, fetched side by side and kept; one dead provider delays nobody for long."""

    def __init__(
        self, transport: Transport, entries: Iterable[ProviderEntry], aliases: AliasRegistry, clock: Clock
    ) -> None:
        self._aliases = aliases
        self._transport = transport
        self._entries = [entry for entry in entries if entry.provider]
        self._now_s = clock.now_s
        self._lists: dict[str, list[Model]] = {}
        self._due_s: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._labels: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._patient_until_s: float | None = None

    def knows(self, label: str) -> bool:
        """Whether a name is an alias, an entry of a chain, or `provider/model` of a list that has come."""
        return label in self._aliases.table.labels or label in self._labels

    def problem(self, provider: str) -> str | None:
        """Why a provider's list did not come, None if it did or was not asked for."""
        return self._problems.get(provider)

    def lists(self) -> dict[str, list[Model]]:
        """The models by provider, as far as they have come."""
        return dict(self._lists)

    async def refresh(self, patience_s: float = LISTS_S) -> None:
        """Ask for every list that is due; wait for those that never came, but only until `patience_s` after the
        first call of all: a silent provider delays one caller once, not every caller again.
        """
        waited = [task for entry in self._entries if (task := self._start(entry)) and entry.name not in self._lists]
        if self._patient_until_s is None:
            self._patient_until_s = self._now_s() + patience_s
        left_s = self._patient_until_s - self._now_s()
        if waited and left_s > 0:
            await asyncio.wait(waited, timeout=left_s)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._running.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _start(self, entry: ProviderEntry) -> asyncio.Task[None] | None:
        if self._now_s() >= self._due_s.get(entry.name, 0.0) and entry.name not in self._running:
            task = asyncio.get_running_loop().create_task(self._fetch(entry))
            self._running[entry.name] = task
            task.add_done_callback(lambda _: self._running.pop(entry.name, None))
        return self._running.get(entry.name)

    async def _fetch(self, entry: ProviderEntry) -> None:
        self._due_s[entry.name] = self._now_s() + RETRY_S
        try:
            models = await self._ask(entry)
        except ProviderError as error:
            self._problems[entry.name] = f"{error.reason}: {error.message}"
            return
        self._problems.pop(entry.name, None)
        self._due_s[entry.name] = self._now_s() + FRESH_S
        models = models[:MODELS_MAX]
        if models == self._lists.get(entry.name):
            # The same object again says that nothing changed: what was made of the list stays good.
            return
        self._lists[entry.name] = models
        self._labels = {target_of(name, model.id).label for name, rows in self._lists.items() for model in rows}

    async def _ask(self, entry: ProviderEntry) -> list[Model]:
        provider = entry.provider
        if provider is None:
            return []
        response = await self._transport.send(provider.encode_models(), Limits(3.0, 10.0, 10.0, 10.0))
        try:
            body = await response.read_all(LIST_BYTES_MAX)
            if response.status != 200:
                raise provider.decode_error(response.status, response.headers, body)
            return provider.decode_models(body)
        finally:
            response.close()
