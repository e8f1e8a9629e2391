"""Load by wrk, and one request by hand that shows that what is measured works."""

import http.client
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import payloads
from benchmarks.machine import tool
from benchmarks.mocks import CHAT_PATH
from benchmarks.processes import ProcessError

HEADERS: Final = {"Content-Type": "application/json", "Authorization": f"Bearer {payloads.CALLER_KEY}"}
_ASK_S: Final = 10.0

# `done` prints what wrk's own report leaves out or rounds; latencies are in microseconds.
_SCRIPT: Final = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{{"requests":%d,"duration_s":%f,"p50_ms":%f,"p99_ms":%f,"errors":%d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk saw in one run."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def write_script(folder: Path, name: str, body: bytes) -> Path:
    """A script that makes wrk send `body` to the chat route."""
    kept = folder / f"{name}.json"
    kept.write_bytes(body)
    headers = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in HEADERS.items())
    script = folder / f"{name}.lua"
    script.write_text(_SCRIPT.format(body=kept, headers=headers), encoding="utf-8")
    return script


def press(port: int, script: Path, connections: int, seconds: int, core: int) -> Load:
    """Ask as fast as the answers come, over so many connections.

    Raises:
        ProcessError: if a request failed: its cost would be no figure.
    """
    url = f"http://127.0.0.1:{port}{CHAT_PATH}"
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
    command = [tool("taskset"), "-c", str(core), tool("wrk"), *options, url]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30.0)
    if run.returncode:
        raise ProcessError(f"wrk failed: {run.stderr or run.stdout}")
    load = Load(**json.loads(run.stdout.strip().splitlines()[-1]))
    if load.errors or not load.requests:
        raise ProcessError(f"{load.errors} of {load.requests} requests failed: {run.stdout}")
    return load


def check_answer(port: int, body: bytes, expected: bytes) -> None:
    """Ask once.

    Raises:
        ProcessError: if the answer is not a 200 that holds `expected`.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_S)
    try:
        connection.request("POST", CHAT_PATH, body, HEADERS)
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ProcessError(f"port {port} did not answer: {error!r}") from error
    finally:
        connection.close()
    if response.status != 200 or expected not in answer:
        raise ProcessError(f"port {port} answered {response.status}: {answer[:300]!r}")
