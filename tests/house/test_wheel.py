"""The wheel, installed into a fresh environment: all that it needs travels with it."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import uvloop

from mana_llm.routing.aliases import version_of
from tests.caller import call
from tests.house.tree import ROOT

DATA = ("aliases.yaml", "aliases.schema.json", "catalogue.json", "py.typed")
STARTED_S = 20.0
BUILD = "import sys; from flit_core import buildapi; print(buildapi.build_wheel(sys.argv[1]))"


def done(*command: object, cwd: Path) -> str:
    environment = {"PATH": os.defpath}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    return folder / done(sys.executable, "-c", BUILD, folder, cwd=ROOT).strip()


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory) -> Path:
    """The folder of an environment's commands: our wheel, and of ours nothing else; its dependencies are seen."""
    folder = tmp_path_factory.mktemp("fresh")
    done(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet")
    done(*pip, "--no-deps", "--no-index", "--disable-pip-version-check", wheel, cwd=folder)
    (packages,) = folder.glob("lib/*/site-packages")
    # A folder that is named in a .pth file has its own .pth files left alone: our checkout is not among them.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def test_wheel_holds_what_the_program_reads_when_it_is_built(wheel):
    """The aliases, their schema and the catalogue are in the package, byte for byte."""
    with zipfile.ZipFile(wheel) as archive:
        for name in DATA:
            assert archive.read(f"mana_llm/{name}") == (ROOT / "src" / "mana_llm" / name).read_bytes()


def test_wheel_is_what_runs_when_it_is_installed(commands, tmp_path):
    """The commands run the installed package, find its files, and need none of the checkout."""
    where = done(commands / "python", "-c", "import mana_llm; print(mana_llm.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(commands.parent)
    assert done(commands / "mana-llm", "schema", cwd=tmp_path) == (ROOT / "aliases.schema.json").read_text()
    assert "Aliases are good: 5 in the shipped aliases.yaml." in done(commands / "mana-llm", "check", cwd=tmp_path)


def test_wheel_serves_when_it_is_started_in_an_empty_folder(commands, tmp_path):
    """`mana-llm serve` answers with the shipped aliases, and reloads them."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        environment = {"PATH": os.defpath, "PORT": str(port), "OLLAMA_URL": "http://127.0.0.1:9"}
        process = await asyncio.create_subprocess_exec(
            commands / "mana-llm", "serve", cwd=tmp_path, env=environment, stdout=-3, stderr=-3
        )
        try:
            async with asyncio.timeout(STARTED_S):
                while True:
                    with contextlib.suppress(ConnectionError):
                        listed = await call(port, "GET /v1/aliases")
                        break
                    await asyncio.sleep(0.02)
            assert listed.json["version"] == version_of((ROOT / "aliases.yaml").read_text(encoding="utf-8"))
            assert (await call(port, "POST /v1/aliases/reload")).json["result"] == "unchanged"
            process.terminate()
            assert await asyncio.wait_for(process.wait(), STARTED_S) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    uvloop.run(main())
