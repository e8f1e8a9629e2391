import asyncio
import json
import shutil
import ssl
import subprocess

import pytest
import uvloop

from mana_llm.simulator import Simulator
from tests.simulator.raw import ask, connect, http, request_bytes, run


def test_script_is_set_and_taken_back_when_put_over_http():
    """A rule put over HTTP works for its model and its number of times, and can be listed and deleted."""

    async def check(simulator):
        order = {"script": {"fault": {"kind": "status", "code": 503}}, "model": "m", "times": 1}
        status, _, raw = await ask(simulator, http("PUT", "/_simulator/script", order))
        assert (status, len(json.loads(raw)["rules"])) == (200, 1)
        assert (await ask(simulator, request_bytes("openai", "other")))[0] == 200
        assert (await ask(simulator, request_bytes("ollama", "m")))[0] == 503
        assert (await ask(simulator, request_bytes("ollama", "m")))[0] == 200
        await ask(simulator, http("PUT", "/_simulator/script", {"script": "sim.status.code-500"}))
        assert (await ask(simulator, http("GET", "/api/tags")))[0] == 500
        await ask(simulator, http("DELETE", "/_simulator/script"))
        assert (await ask(simulator, http("GET", "/api/tags")))[0] == 200

    run(check)


@pytest.mark.parametrize(
    "order",
    [{"script": {"speed": 1}}, {"script": "sim.dance"}, {"script": "m"}, {}, {"script": "sim.refuse"}],
)
def test_script_is_refused_when_it_makes_no_sense(order):
    """A wrong order, or one that would lock the endpoint out, is a 400."""

    async def check(simulator):
        assert (await ask(simulator, http("PUT", "/_simulator/script", order)))[0] == 400

    run(check)


def test_script_is_for_a_path_when_one_is_given():
    """A probe may fail while chat works."""

    async def check(simulator):
        simulator.script("sim.status.code-503", path="/api/tags")
        assert (await ask(simulator, http("GET", "/api/tags")))[0] == 503
        assert (await ask(simulator, request_bytes("ollama", "m")))[0] == 200
        simulator.clear_scripts()
        assert (await ask(simulator, http("GET", "/api/tags")))[0] == 200

    run(check)


def test_log_tells_every_request_when_read_over_http():
    """The log has each request with its secrets masked, and can be emptied."""

    async def check(simulator):
        secret = "x-goog-api-key: hush\r\nAuthorization: Bearer hush\r\n"
        await ask(simulator, http("GET", "/v1beta/models?key=hush&pageSize=5", headers=secret))
        await ask(simulator, request_bytes("gemini", "m"))
        _, _, raw = await ask(simulator, http("GET", "/_simulator/log"))
        first, second = json.loads(raw)["log"]
        assert b"hush" not in raw
        assert (first["method"], first["path"], first["query"]) == (
            "GET",
            "/v1beta/models",
            "key=***&pageSize=5",
        )
        assert (second["model"], second["dialect"], second["ended"]) == ("m", "gemini", "complete")
        assert second["body"]["contents"]
        await ask(simulator, http("DELETE", "/_simulator/log"))
        assert not simulator.log

    run(check)


def test_control_is_a_404_when_the_path_is_unknown():
    """The control endpoint knows two things."""

    async def check(simulator):
        assert (await ask(simulator, http("GET", "/_simulator/weather")))[0] == 404
        assert (await ask(simulator, http("GET", "/nowhere")))[0] == 404

    run(check)


def test_wait_until_times_out_when_nothing_happens():
    """Waiting has an end."""

    async def check(simulator):
        with pytest.raises(TimeoutError):
            await simulator.wait_until(lambda: simulator.open_connections > 0, timeout_s=0.01)

    run(check)


def test_repr_is_one_line_when_printed():
    """A simulator says where it listens and what it holds."""

    async def check(simulator):
        await ask(simulator, http("GET", "/api/version"))
        await simulator.wait_until(lambda: simulator.open_connections == 0)
        assert repr(simulator) == f"<Simulator {simulator.url} listening, 0 connections, 1 logged>"
        assert simulator.connections_made == 1

    run(check)


def test_everything_ends_when_the_block_is_left():
    """Leaving the block closes hanging connections and logs them as aborted."""

    async def check():
        async with Simulator() as simulator:
            one = await connect(simulator, request_bytes("openai", "sim.hang"))
            await simulator.wait_until(lambda: bool(simulator.log))
        assert simulator.log[-1].ended == "aborted"
        assert await one.reader.read() == b""
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(check())


def test_reset_is_a_reset_when_uvloop_runs():
    """The faults that need the transport work on uvloop as well."""

    async def check():
        async with Simulator() as simulator:
            for how in ("rst", "fin", "half"):
                one = await connect(simulator, request_bytes("openai", f"sim.cut.after-2.how-{how}"))
                await one.head()
                if how == "rst":
                    with pytest.raises(ConnectionResetError):
                        await one.rest()
                else:
                    assert await one.rest()
                one.close()

    uvloop.run(check())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_answer_is_the_same_when_spoken_over_tls(tmp_path):
    """With an ssl_context the same answers and the same faults come over TLS."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    trust = ssl.create_default_context(cafile=str(cert))
    trust.check_hostname = False

    async def check(simulator):
        assert simulator.url.startswith("https://")
        for name, part in (("m", b"data: [DONE]"), ("sim.cut.after-2.how-half", b"data: {")):
            reader, writer = await asyncio.open_connection(simulator.host, simulator.port, ssl=trust)
            writer.write(request_bytes("openai", name))
            assert part in await reader.readuntil(part)
            writer.transport.abort()
        await simulator.wait_until(lambda: simulator.open_connections == 0)

    run(check, ssl_context=context)
