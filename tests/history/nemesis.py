"""Makes trouble: changes what the networks do, kills and restarts providers, and rolls the aliases."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from mana_llm.routing.aliases import version_of
from tests.history.toxics import TOXICS, Proxy

CHAINS = {
    "mana/a": ["u1/m", "u2/m"],
    "mana/b": ["u2/m", "u3/m", "u1/m"],
    "mana/hedged": ["u1/m", "u3/m", "u4/m"],
    "mana/long": ["u4/m", "u1/m", "u2/m", "u3/m"],
    "mana/vectors": ["u1/e", "u3/e", "u4/e"],
}
EXTRA = {"mana/hedged": "hedge_after_s: 0.03, ", "mana/vectors": "kind: embeddings, ", "mana/a": "ttft_s: 0.4, "}


def rolled(turns: int) -> dict[str, list[str]]:
    """The chains, each begun so many entries later."""
    return {name: chain[turns % len(chain) :] + chain[: turns % len(chain)] for name, chain in CHAINS.items()}


def file_of(chains: dict[str, list[str]]) -> str:
    """An aliases file."""
    rows = [f"  {name}: {{{EXTRA.get(name, '')}chain: [{', '.join(chain)}]}}\n" for name, chain in chains.items()]
    return f"aliases:\n{''.join(rows)}default: mana/a\n"


class Nemesis:
    """Goes on until it is stopped; `chains` has every version of the aliases that there was."""

    def __init__(self, proxies: list[Proxy], file: Path, chance: random.Random) -> None:
        self.chains: dict[str, dict[str, list[str]]] = {}
        self.killed: list[tuple[str, float]] = []
        self.reloads = 0
        self._proxies = proxies
        self._file = file
        self._random = chance
        self._turns = 0

    def write(self) -> str:
        """The next version of the aliases; gives its text."""
        chains = rolled(self._turns)
        text = file_of(chains)
        self._turns += 1
        self.chains[version_of(text)] = chains
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self._file)
        return text

    async def run(self, reload: Callable[[], object]) -> None:
        """Make trouble of every kind at a time; `reload` has the aliases read again."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._poison())
                group.create_task(self._kill())
                group.create_task(self._roll(reload))
        finally:
            for proxy in self._proxies:
                proxy.kinds = ()

    async def _poison(self) -> None:
        chance = self._random
        while True:
            for proxy in self._proxies:
                proxy.kinds = tuple(chance.sample(TOXICS, 3))
                proxy.share = chance.choice((0.0, 0.1, 0.1, 0.4))
            await asyncio.sleep(chance.uniform(0.1, 0.5))

    async def _kill(self) -> None:
        chance = self._random
        while True:
            await asyncio.sleep(chance.uniform(0.3, 0.9))
            proxy = chance.choice(self._proxies)
            self.killed.append((proxy.name, asyncio.get_running_loop().time()))
            proxy.kill()
            try:
                await asyncio.sleep(chance.uniform(0.0, 0.2))
            finally:
                # Were it cancelled in the middle of that, nobody would listen there any more.
                proxy.starting = asyncio.ensure_future(proxy.start())
                await asyncio.shield(proxy.starting)

    async def _roll(self, reload: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.1, 0.4))
            self.write()
            self.reloads += 1
            reload()
