"""Follows a Dockerfile without a container: its files, commands and environment, in a folder of ours."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath


@dataclass
class Stage:
    """One FROM and what followed it: where its root folder is and what its processes would see."""

    root: Path
    folder: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    command: list[str] = field(default_factory=list)
    health_command: list[str] = field(default_factory=list)

    def real(self, path: str) -> Path:
        """Where a path inside the stage lies on this machine."""
        return self.root / str(PurePosixPath(self.folder, path)).lstrip("/")


@dataclass
class Follower:
    """Walks through a Dockerfile's instructions; one that it does not know is an error."""

    context: Path
    scratch: Path
    stages: dict[str, Stage] = field(default_factory=dict)

    def follow(self, dockerfile: Path) -> Stage:
        """The last stage, after every COPY and RUN has been carried out."""
        for instruction, rest in instructions(dockerfile.read_text(encoding="utf-8")):
            getattr(self, f"_do_{instruction.lower()}")(rest)
        return self._stage

    @property
    def _stage(self) -> Stage:
        return list(self.stages.values())[-1]

    def _do_from(self, rest: str) -> None:
        name = rest.partition(" AS ")[2] or f"stage-{len(self.stages)}"
        root = self.scratch / name
        root.mkdir()
        self.stages[name] = Stage(root)

    def _do_workdir(self, rest: str) -> None:
        self._stage.folder = rest
        self._stage.real(".").mkdir(parents=True, exist_ok=True)

    def _do_env(self, rest: str) -> None:
        self._stage.environment |= dict(word.split("=", 1) for word in shlex.split(rest))

    def _do_copy(self, rest: str) -> None:
        *sources, target = rest.split()
        if sources[0].startswith("--from="):
            origin = self.stages[sources.pop(0).removeprefix("--from=")]
            # A virtual environment's scripts name its folder, so it is moved by a link, not by a copy.
            place = self._stage.real(target)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(origin.real(sources[0]))
            return
        for source in sources:
            self._copy_from_context(source, target)

    def _copy_from_context(self, source: str, target: str) -> None:
        """Copy one file or folder of the context, as far as .dockerignore lets it in."""
        patterns = ignore_patterns(self.context)
        found = self.context / source
        base = self._stage.real(target) / found.name if found.is_file() else self._stage.real(target)
        files = [found] if found.is_file() else [path for path in found.rglob("*") if path.is_file()]
        kept = [path for path in files if not is_ignored(path.relative_to(self.context).as_posix(), patterns)]
        assert kept, f"COPY {source}: .dockerignore lets nothing in"
        for path in kept:
            place = base / path.relative_to(found) if found.is_dir() else base
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)

    def _do_run(self, rest: str) -> None:
        """Run a command as the image would: its `python` is one of its own, its /opt is the stage's."""
        system = self._stage.root / "usr"
        if not system.exists():
            subprocess.run([sys.executable, "-m", "venv", system], check=True)
        for name in ("opt", "etc", "var"):
            rest = re.sub(rf"(?<![\w./-])/{name}/", f"{self._stage.root}/{name}/", rest)
        outcome = subprocess.run(
            ["/bin/sh", "-c", rest],
            cwd=self._stage.real("."),
            env=os.environ | self._stage.environment | {"PATH": f"{system}/bin{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 0, f"RUN {rest}\n{outcome.stdout}{outcome.stderr}"

    def _do_user(self, rest: str) -> None:
        self._stage.user = rest

    def _do_cmd(self, rest: str) -> None:
        self._stage.command = json.loads(rest)

    def _do_healthcheck(self, rest: str) -> None:
        self._stage.health_command = json.loads(rest.partition(" CMD ")[2])

    def _do_expose(self, rest: str) -> None:
        """A note to the reader of the image; nothing to carry out."""

    _do_stopsignal = _do_expose


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.strip().split(None, 1) for line in joined.splitlines() if line.strip())
    return [(word, rest) for word, rest in pairs]


def ignore_patterns(context: Path) -> list[str]:
    """The patterns of the context's .dockerignore, in order."""
    lines = (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a path out: a pattern counts for all below; the last that fits decides."""
    parents = PurePosixPath(path).parents
    prefixes = [path, *(str(parent) for parent in parents if str(parent) != ".")]
    ignored = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        if any(_fits(prefix, bare) for prefix in prefixes):
            ignored = not pattern.startswith("!")
    return ignored


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(PurePosixPath(path).name, pattern.removeprefix("**/"))
    same_depth = path.count("/") == pattern.count("/")
    return same_depth and fnmatchcase(path, pattern)
