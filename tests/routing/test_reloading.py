"""Aliases anew: what a reload changes, what it leaves, and what is noticed of a file."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from mana_llm.compose.sources import ALIASES_BYTES_MAX, AliasesFile
from mana_llm.routing.aliases import AliasConfigError, AliasRegistry
from mana_llm.routing.reloading import AliasReloader
from mana_llm.settings import Settings

PROVIDERS = {"ollama": "", "openai": ""}
BAD = "aliases:\n  mana/a:\n    chian: [ollama/x]\ndefault: mana/a\n"
NOTICED_S = 5.0


def text(model: str) -> str:
    return f"aliases: {{mana/a: {{chain: [ollama/{model}]}}}}\ndefault: mana/a\n"


class Counted:
    """An observer that keeps the results in their order."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def config_reloaded(self, result: str) -> None:
        self.results.append(result)


class Told:
    """A source that says what the test tells it; `gate` holds every reading up."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.stamped = 0
        self.reads = 0
        self.gate = threading.Event()
        self.gate.set()

    def read(self) -> tuple[str, str]:
        self.reads += 1
        said = self.said
        assert self.gate.wait(NOTICED_S)
        return "told", said

    def stamp(self) -> object:
        return self.stamped


class Scene:
    """A registry, what reloads it, and the results."""

    def __init__(self, source) -> None:
        self.registry = AliasRegistry(source.read()[1], PROVIDERS, "ollama")
        self.observer = Counted()
        self.reloader = AliasReloader(self.registry, source, self.observer, lambda: ["a warning"])
        self.reloader.poll_s = 0.01

    @property
    def model(self) -> str:
        return self.registry.resolve("mana/a").chain[0].model

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(NOTICED_S):
            while not is_so():  # noqa: ASYNC110 - what is waited for happens in a thread
                await asyncio.sleep(0.005)


def scene_of(path: Path) -> Scene:
    return Scene(AliasesFile(Settings(aliases_path=str(path))))


def test_reload_replaces_all_when_the_text_is_good(tmp_path):
    """Version, chains and labels are the new ones; a route that was given before is what it was."""
    path = tmp_path / "aliases.yaml"
    path.write_text(text("old"))
    scene = scene_of(path)
    route, labels = scene.registry.resolve(""), scene.registry.table.labels
    path.write_text(text("new"))
    outcome = uvloop.run(scene.reloader.reload())
    assert (outcome.result, outcome.warnings, scene.observer.results) == ("ok", ("a warning",), ["ok"])
    assert scene.model == "new"
    assert scene.registry.version == outcome.version != route.config
    assert (route.chain[0].model, labels) == ("old", {"mana/a", "ollama/old"})
    assert scene.registry.table.labels == {"mana/a", "ollama/new"}
    assert scene.registry.resolve("openai/x").config == outcome.version


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BAD.encode(), "line 3: mana/a: 'chian' is not a key here. Did you mean chain?"),
        (b"\xff\xfe", "cannot be read (not UTF-8)"),
        (b"#" * (ALIASES_BYTES_MAX + 1), f"cannot be read (more than {ALIASES_BYTES_MAX} bytes)"),
        (b"a: " + b"[" * 100_000, "line 1: nested deeper than 16 levels."),
        (b"a: \x00", "line 1: not YAML: "),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_reload_changes_nothing_when_the_file_is_bad(tmp_path, caplog, content, says):
    """The table stays the very same; the log has file and place, once, and no trace; every reload is counted."""
    path = tmp_path / "aliases.yaml"
    path.write_text(text("old"))
    scene = scene_of(path)
    table = scene.registry.table
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)

    async def main() -> list[str]:
        return [(await scene.reloader.reload()).problem for _ in range(3)]

    with caplog.at_level(logging.INFO, "mana_llm.aliases"):
        problems = uvloop.run(main())
    assert scene.registry.table is table
    assert scene.observer.results == ["rejected"] * 3
    assert len(set(problems)) == len(caplog.records) == 1
    assert str(path) in problems[0]
    assert says in problems[0]
    assert problems[0] in caplog.text
    assert "Traceback" not in caplog.text


def test_reload_says_that_it_is_good_again_when_the_old_text_returns(tmp_path, caplog):
    """A bad file that is put right by its old text is unchanged, and the log says which version holds."""
    path = tmp_path / "aliases.yaml"
    path.write_text(text("old"))
    scene = scene_of(path)

    async def main() -> None:
        path.write_text(BAD)
        await scene.reloader.reload()
        path.write_text(text("old"))
        await scene.reloader.reload()

    with caplog.at_level(logging.INFO, "mana_llm.aliases"):
        uvloop.run(main())
    assert scene.observer.results == ["rejected", "unchanged"]
    assert caplog.messages[-1] == f"the aliases are at version {scene.registry.version}"


def test_reload_is_shared_when_many_ask_at_once():
    """While one reading runs, however many ask get one more between them, and it is a reading that began afterwards."""
    source = Told(text("a"))
    scene = Scene(source)

    async def main() -> None:
        source.gate.clear()
        first = asyncio.create_task(scene.reloader.reload())
        await scene.until(lambda: source.reads == 2)
        source.said = text("b")
        later = [asyncio.create_task(scene.reloader.reload()) for _ in range(50)]
        for _ in range(50):
            scene.reloader.ask()
        source.gate.set()
        assert (await first).result == "unchanged"
        assert {outcome.result for outcome in await asyncio.gather(*later)} == {"ok"}
        await scene.reloader.close()

    uvloop.run(main())
    assert (source.reads, scene.model, scene.observer.results) == (3, "b", ["unchanged", "ok"])


def rewritten(path: Path) -> None:
    path.write_text(text("new"))


def renamed(path: Path, content: str | None = None) -> None:
    other = path.with_suffix(".tmp")
    other.write_text(text("new") if content is None else content)
    other.replace(path)


def repointed(path: Path) -> None:
    other = path.with_suffix(".two")
    other.write_text(text("new"))
    link = path.with_suffix(".link")
    link.symlink_to(other)
    link.replace(path)


CHANGES = {change.__name__: change for change in (rewritten, renamed, repointed)}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_noticed_when_the_file_is(tmp_path, name):
    """A file that is written anew, replaced, or a link that is pointed elsewhere: each is one reload."""
    real = tmp_path / "one.yaml"
    real.write_text(text("old"))
    path = tmp_path / "aliases.yaml"
    path.symlink_to(real)
    scene = scene_of(path)

    async def main() -> None:
        scene.reloader.start()
        CHANGES[name](path)
        await scene.until(lambda: bool(scene.observer.results))
        await scene.reloader.close()

    uvloop.run(main())
    assert (scene.model, scene.observer.results) == ("new", ["ok"])


def test_file_is_waited_for_when_it_is_gone_for_a_moment(tmp_path):
    """Nothing happens while the file is not there; when it is back with another text, that is taken."""
    path = tmp_path / "aliases.yaml"
    path.write_text(text("old"))
    scene = scene_of(path)
    source, looks = scene.reloader._source, []
    stamp = source.stamp
    source.stamp = lambda: looks.append(found := stamp()) or found

    async def main() -> None:
        scene.reloader.start()
        path.unlink()
        await scene.until(lambda: looks[-3:] == [None] * 3)
        assert (scene.model, scene.observer.results) == ("old", [])
        path.write_text(text("new"))
        await scene.until(lambda: scene.model == "new")
        await scene.reloader.close()

    uvloop.run(main())


def test_change_is_noticed_when_two_fall_into_one_tick_of_the_file_system():
    """A second text under the same stamp as the first is found at the next look."""
    source = Told(text("a"))
    scene = Scene(source)

    async def main() -> None:
        scene.reloader.start()
        source.said, source.stamped = text("b"), 1
        await scene.until(lambda: scene.model == "b")
        source.said = text("c")
        await scene.until(lambda: scene.model == "c")
        await scene.reloader.close()

    uvloop.run(main())


def test_text_is_not_read_when_nothing_changed():
    """Looking costs a stat: the text is read at the first look and the one after, and not again."""
    source = Told(text("a"))
    scene = Scene(source)
    looks: list[int] = []
    source.stamp = lambda: looks.append(1) or 1

    async def main() -> None:
        scene.reloader.start()
        await scene.until(lambda: len(looks) > 20)
        await scene.reloader.close()

    uvloop.run(main())
    assert source.reads <= 3
    assert scene.observer.results == []


def test_bad_file_is_reported_once_when_it_is_looked_at_often(tmp_path):
    """A bad text is counted once while it stays, however often its file is touched, and its change is noticed."""
    path = tmp_path / "aliases.yaml"
    path.write_text(text("old"))
    scene = scene_of(path)
    source, reads = scene.reloader._source, []
    read = source.read
    source.read = lambda: reads.append(1) or read()

    async def main() -> None:
        scene.reloader.start()
        # Written in place it might be seen empty, which is another bad text.
        renamed(path, BAD)
        await scene.until(lambda: bool(scene.observer.results))
        for _ in range(3):
            before = len(reads)
            os.utime(path)
            await scene.until(lambda: len(reads) > before)  # noqa: B023 - it is called within this turn
        renamed(path)
        # The model is the new one a moment before that is told.
        await scene.until(lambda: len(scene.observer.results) > 1)
        await scene.reloader.close()

    uvloop.run(main())
    assert scene.model == "new"
    assert scene.observer.results == ["rejected", "ok"]


def test_shipped_aliases_do_not_step_in_when_the_working_copy_is_gone(tmp_path, monkeypatch):
    """A working copy is found when it comes; once it was there, its absence is an error, not another configuration."""
    monkeypatch.chdir(tmp_path)
    file = AliasesFile(Settings())
    assert "mana/vision" in file.read()[1]
    assert file.stamp() is not None
    path = tmp_path / "aliases.yaml"
    path.write_text(text("mine"))
    assert file.read() == ("aliases.yaml", text("mine"))
    path.unlink()
    assert file.stamp() is None
    with pytest.raises(AliasConfigError, match="No such file"):
        file.read()
