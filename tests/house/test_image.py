"""The image, checked without a container: its files, its commands, and a server that answers."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.house.dockerfile import Follower, Stage, ignore_patterns, instructions, is_ignored
from tests.house.tree import ROOT

KEY = "key-of-the-image-test"
START_S_MAX = 20.0
POLL_S = 0.05


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Stage:
    """The Dockerfile's last stage, built once in an empty folder."""
    return Follower(ROOT, tmp_path_factory.mktemp("image")).follow(ROOT / "Dockerfile")


def _environment(image: Stage, **settings: str) -> dict[str, str]:
    """What a process in the image would see, with the settings given to `docker run` laid over it."""
    seen = image.environment | {"PATH": f"{image.real('/opt/mana-llm/bin')}{os.pathsep}{os.defpath}"}
    return seen | {"OLLAMA_URL": "http://127.0.0.1:9"} | settings


def _program(image: Stage, command: list[str], environment: dict[str, str]) -> list[str]:
    found = shutil.which(command[0], path=environment["PATH"])
    assert found, f"the image has no {command[0]}"
    return [found, *command[1:]]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def _serving(image: Stage) -> Iterator[int]:
    """The image's own command at work; yields the port once it accepts connections."""
    port = _free_port()
    environment = _environment(image, GPU_API_KEY=KEY, PORT=str(port))
    command = _program(image, image.command, environment)
    with subprocess.Popen(command, cwd=image.real("."), env=environment) as process:
        try:
            _await_port(process, port)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_port(process: subprocess.Popen, port: int) -> None:
    """Return once the port accepts a connection; fail as soon as the process ends or the deadline passes."""
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"the image's command ended with {process.wait(timeout=POLL_S)}")
    pytest.fail(f"nothing listened on the port within {START_S_MAX} s")


def _get(port: int, path: str, key: str | None = None) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_image_serves_when_built_from_its_copied_files(image):
    """The image's command answers /health to anyone and the model list to a caller with the key only."""
    with _serving(image) as port:
        status, health = _get(port, "/health")
        assert (status, health["status"] in {"healthy", "degraded", "unhealthy"}) == (200, True)
        assert _get(port, "/v1/models")[0] == 401
        status, models = _get(port, "/v1/models", KEY)
        assert status == 200
        assert "mana/fast-text" in {model["id"] for model in models["data"]}


def test_image_reports_itself_healthy_when_it_serves(image):
    """The image's health check succeeds while the server runs, and fails when there is none."""
    with _serving(image) as port:
        assert _health_check(image, port) == 0
    assert _health_check(image, _free_port()) != 0


def _health_check(image: Stage, port: int) -> int:
    environment = _environment(image, PORT=str(port))
    command = _program(image, image.health_command, environment)
    return subprocess.run(command, env=environment, cwd=image.real("."), timeout=10, check=False).returncode


def test_image_refuses_to_start_when_no_key_is_set(image):
    """An image that listens to everyone does not start without a caller's key, and names the setting."""
    environment = _environment(image, PORT=str(_free_port()))
    command = _program(image, image.command, environment)
    outcome = subprocess.run(
        command, env=environment, cwd=image.real("."), timeout=20, check=False, capture_output=True, text=True
    )
    assert outcome.returncode != 0
    assert "GPU_API_KEY" in outcome.stdout + outcome.stderr


def test_image_carries_the_runtime_alone_when_built(image):
    """Neither pip nor the build backend nor a source folder is in the image's environment."""
    found = {path.name.partition("-")[0] for path in image.real("/opt/mana-llm").glob("lib/*/site-packages/*")}
    assert "mana_llm" in found
    assert not found & {"pip", "setuptools", "flit_core", "pytest"}


def test_image_runs_as_nobody_when_started():
    """The image's user is a number other than root's, and it listens to the outside."""
    steps = dict(instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    assert re.fullmatch(r"10001(:10001)?", steps["USER"])
    assert "HOST=0.0.0.0" in steps["ENV"].split()
    assert steps["EXPOSE"] == "3025"


def test_compose_requires_a_key_when_it_starts_the_gateway():
    """Compose refuses to start the gateway without GPU_API_KEY, and starts Ollama only when asked."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert services["mana-llm"]["environment"]["GPU_API_KEY"].startswith("${GPU_API_KEY:?")
    assert services["ollama"]["profiles"] == ["ollama"]


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        (".env", True),
        (".git/config", True),
        ("tests/house/test_image.py", True),
        ("pyproject.toml", False),
        ("src/mana_llm/aliases.yaml", False),
        ("src/mana_llm/kit/__pycache__/framing.cpython-311.pyc", True),
    ],
)
def test_build_context_is_narrow_when_docker_reads_it(path, ignored):
    """The build context holds what the image needs, and no secrets, history or tests."""
    assert is_ignored(path, ignore_patterns(ROOT)) is ignored
