"""Aliases anew while requests run: told by a signal, a command, or a change of the file.

Whoever asks gets the outcome of a reading that began after the question. However many ask at once, one reading runs
and one waits. Reading and parsing happen in a thread; the loop only sees the finished table take its place. A text
that cannot be used changes nothing, and is logged once, not at every look.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol

import msgspec

from mana_llm.ports import Observer
from mana_llm.routing.aliases import AliasConfigError, AliasRegistry, version_of

_log: Final = logging.getLogger("mana_llm.aliases")

POLL_S: Final = 2.0
"""Seconds between two looks at the file; a change is to be noticed within 5 s."""

Result = Literal["ok", "rejected", "unchanged"]


class AliasSource(Protocol):
    """Where the text comes from. Both methods may block, and are called from threads."""

    def read(self) -> tuple[str, str]:
        """The source's name, and its text. Raises AliasConfigError, which names the source, if it cannot be read."""
        ...

    def stamp(self) -> object:
        """Something that differs after every change; None if there is nothing to look at, for now or for ever."""
        ...


class Reloaded(msgspec.Struct, frozen=True):
    """What came of a reload. `version` holds now; `problem` says why a text was rejected, "" if it was not."""

    result: Result
    version: str
    problem: str = ""
    warnings: tuple[str, ...] = ()


class AliasReloader:
    """Keeps `registry` at what `source` says. `warnings` gives what an operator should know of a new table."""

    def __init__(
        self, registry: AliasRegistry, source: AliasSource, observer: Observer, warnings: Callable[[], Iterable[str]]
    ) -> None:
        self.poll_s = POLL_S
        self._registry = registry
        self._source = source
        self._observer = observer
        self._warnings = warnings
        self._lock = asyncio.Lock()
        self._waiting: asyncio.Task[Reloaded] | None = None
        self._tasks: set[asyncio.Task[Reloaded]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._seen = registry.version
        self._logged = ""

    def start(self) -> None:
        """Begin to watch the source."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Stop watching, and whatever reload is under way."""
        tasks = [task for task in (self._watching, *self._tasks) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ask(self) -> None:
        """Have the aliases reloaded, without waiting for it; from the loop's own thread."""
        self._asked()

    async def reload(self) -> Reloaded:
        """Reload the aliases."""
        return await asyncio.shield(self._asked())

    def _asked(self) -> "asyncio.Task[Reloaded]":
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_task(self._in_turn())
            self._tasks.add(self._waiting)
            self._waiting.add_done_callback(self._tasks.discard)
        return self._waiting

    async def _in_turn(self) -> Reloaded:
        async with self._lock:
            # From here on the file is being read: whoever asks now wants another reading.
            self._waiting = None
            outcome = await asyncio.to_thread(self._reload)
            self._tell(outcome)
            return outcome

    def _reload(self) -> Reloaded:
        """In a thread: read, parse, and put the table in its place."""
        registry, name = self._registry, ""
        try:
            name, text = self._source.read()
            self._seen = version_of(text)
            changed = registry.reload(text)
        except AliasConfigError as error:
            return Reloaded("rejected", registry.version, f"{name}: {error}" if name else str(error))
        if not changed:
            return Reloaded("unchanged", registry.version)
        return Reloaded("ok", registry.version, warnings=tuple(self._warnings()))

    def _tell(self, outcome: Reloaded) -> None:
        self._observer.config_reloaded(outcome.result)
        if outcome.problem and outcome.problem != self._logged:
            _log.error("the aliases stay at version %s: %s", outcome.version, outcome.problem)
        elif outcome.result == "ok" or (self._logged and not outcome.problem):
            _log.info("the aliases are at version %s", outcome.version)
        for warning in outcome.warnings:
            _log.warning("%s", warning)
        self._logged = outcome.problem

    async def _watch(self) -> None:
        # The text was read before the first look: it may have changed since, so the first look is a fresh one.
        stamp: object = None
        is_fresh = True
        while True:
            await asyncio.sleep(self.poll_s)
            before, was_fresh = stamp, is_fresh
            try:
                stamp = await asyncio.to_thread(self._source.stamp)
                # Two writes within one tick of the file system's clock may leave the same stamp: after a change it
                # is read at the next look too. A file that is gone for a moment is waited for.
                is_fresh = stamp != before
                if stamp is not None and (is_fresh or was_fresh) and await asyncio.to_thread(self._differs):
                    await self.reload()
            except Exception:  # noqa: BLE001 - see below
                # A mistake of ours in one look is no reason never to look again.
                _log.exception("the aliases could not be looked at")

    def _differs(self) -> bool:
        """In a thread: whether the text is another than the one that was read last."""
        try:
            return version_of(self._source.read()[1]) != self._seen
        except AliasConfigError:
            # Unreadable is worth a reload, which says so; the same again is not logged again.
            return True
