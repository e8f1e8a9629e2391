"""One line for every request: what it says, that it cannot be forged, and that it holds nobody up."""

import json
import os
import pty
import re

import pytest
import uvloop

from mana_llm.observe.access import AccessLog
from mana_llm.observe.lines import LineWriter
from mana_llm.schema.events import Exchange
from mana_llm.settings import Secret
from tests.caller import begin_chat, body_for, call, chat, counted
from tests.logged import logged
from tests.process import served
from tests.world import gateway

WAIT_S = 10.0
ALIASES = """
aliases:
  mana/works: {chain: [ollama/gemma3:4b]}
  mana/falls: {chain: [openai/sim.status.code-500, openai/gpt-5-mini]}
  mana/slow: {chain: [openai/sim.hang]}
default: mana/works
"""
ALWAYS = {"logger", "time", "request_id", "status", "duration_ms", "lane", "caller"}
EVIL = 'x\n{"status":200}\r\x1b[2J\x9b31m\u202e\u2028\x00é'


@pytest.mark.parametrize("stream", [False, True])
def test_line_says_who_answered_when_a_chat_went_well(stream, tmp_path):
    """One line tells what was asked, who answered, tokens and times; a stream's also its first token."""

    async def main() -> None:
        async with logged(tmp_path, ALIASES) as (running, log):
            answer = await chat(running.port, "mana/works", stream=stream)
        (line,) = log
        assert line["logger"] == "mana_llm.access"
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        told = {name: line[name] for name in ("request_id", "model", "alias", "resolved", "status", "attempts")}
        assert told == {
            "request_id": answer.headers["x-request-id"],
            "model": "mana/works",
            "alias": "mana/works",
            "resolved": "ollama/gemma3:4b",
            "status": 200,
            "attempts": 1,
        }
        assert (line["caller"], line["lane"]) == ("anonymous", "interactive")
        assert line["config"] == answer.headers["x-mana-llm-config"]
        assert line["tokens_in"] > 0
        assert line["tokens_out"] > 0
        assert line["duration_ms"] >= line["overhead_ms"] >= 0
        assert line.get("stream", False) is stream
        assert ("first_token_ms" in line) is stream
        assert "error" not in line

    uvloop.run(main())


def test_line_says_who_caught_it_when_a_request_fell_back(tmp_path):
    """A fallback shows both attempts, the entry that answered, and what that cost."""

    async def main() -> None:
        async with logged(tmp_path, ALIASES) as (running, log):
            await chat(running.port, "mana/falls")
        (line,) = log
        assert (line["status"], line["attempts"], line["resolved"]) == (200, 2, "openai/gpt-5-mini")
        assert line["cost_usd"] > 0

    uvloop.run(main())


def test_line_names_the_error_when_a_request_fails(tmp_path):
    """What was refused or failed has its status and the error's word, whoever was to blame."""

    async def main() -> None:
        async with logged(tmp_path, ALIASES, gpu_api_key=Secret("right")) as (running, log):
            key = {"Authorization": "Bearer right"}
            path = "POST /v1/chat/completions"
            await call(running.port, path, body_for("mana/works"))
            await call(running.port, path, b"{", key)
            await call(running.port, path, body_for("mana/none"), key)
            await call(running.port, path, body_for("openai/sim.status.code-404"), key)
            await call(running.port, path, body_for("openai/sim.status.code-500"), key)
            await call(running.port, "GET /v1/models", headers=key)
        assert [line["status"] for line in log] == [401, 400, 404, 404, 503, 200]
        assert all("error" in line for line in log[:-1])
        assert log[0]["error"] == "AuthenticationError"
        assert log[4]["error"] == "NoHealthyProviderError"
        assert [line.get("caller") for line in log] == [None, *["key-1"] * 5]
        assert all("right" not in json.dumps(line) for line in log)

    uvloop.run(main())


def test_line_says_499_when_the_client_left(tmp_path):
    """A client that leaves has its line, too, with the provider that was asked for it."""

    async def main() -> None:
        async with logged(tmp_path, ALIASES) as (running, log):
            exchange = await begin_chat(running.port, "mana/slow")
            await running.simulator.wait_until(lambda: any(entry.method == "POST" for entry in running.simulator.log))
            exchange.close()
            (asked,) = [entry for entry in running.simulator.log if entry.method == "POST"]
            await running.simulator.wait_until(lambda: asked.ended == "client-closed")
        (line,) = log
        assert (line["status"], line["model"], line["attempts"]) == (499, "mana/slow", 1)

    uvloop.run(main())


def test_line_names_the_break_when_a_stream_ends_badly(tmp_path):
    """A stream that broke is a 200 with the error that ended it."""

    async def main() -> None:
        async with logged(tmp_path) as (running, log):
            await chat(running.port, "openai/sim.cut.after-2", stream=True)
        (line,) = log
        assert (line["status"], line["stream"], line["error"]) == (200, True, "ProviderProtocolError")

    uvloop.run(main())


def test_probes_have_no_line_when_they_ask(tmp_path):
    """Probes and scrapes are not logged, a request for embeddings or models is; every line has the same base."""

    async def main() -> None:
        async with logged(tmp_path) as (running, log):
            for path in ("/livez", "/readyz", "/health", "/metrics", "/livez/", "/metrics/"):
                await call(running.port, f"GET {path}")
            await call(running.port, "POST /v1/embeddings", b'{"model": "ollama/nomic-embed-text", "input": "x"}')
            await call(running.port, "GET /v1/models")
        assert len(log) == 2
        assert all(set(line) >= ALWAYS for line in log)
        assert log[0]["model"] == "ollama/nomic-embed-text"

    uvloop.run(main())


def test_line_stays_a_line_when_the_model_is_hostile(tmp_path):
    """A client's text is bounded and escaped: no line of its own, no escape sequence, no odd direction."""

    async def main() -> None:
        async with logged(tmp_path) as (running, log):
            await chat(running.port, "openai/" + EVIL)
            await chat(running.port, "y" * 250)
        assert len(log) == 2
        assert log[0]["model"] == "openai/" + EVIL
        assert log[1]["model"] == "y" * 200
        # tests.logged reads ASCII: anything else would have failed there.
        assert re.fullmatch(r"[ -~\n]+", (tmp_path / "access.log").read_text(encoding="ascii"))

    uvloop.run(main())


def test_line_is_readable_when_it_goes_to_a_terminal():
    """On a terminal a request is a line of words, and what a client said cannot move the cursor."""
    ours, theirs = pty.openpty()

    async def main() -> None:
        async with gateway(lines=LineWriter(theirs, lambda _: b"")) as running:
            await chat(running.port, "openai/gpt-5-mini")
            await chat(running.port, "openai/" + EVIL)

    uvloop.run(main())
    text = os.read(ours, 65536).decode("ascii").replace("\r\n", "\n")
    first, second = text.splitlines()
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} 200 openai/gpt-5-mini -> openai/gpt-5-mini \d+\.\d ms .*tokens", first)
    assert re.fullmatch(r"[ -~]+", second)
    assert "\\x1b[2J" in second
    for end in (ours, theirs):
        os.close(end)


def test_nothing_is_logged_when_it_is_turned_off(tmp_path):
    """Without the access log there is no line, and everything is counted as before."""

    async def main() -> None:
        async with logged(tmp_path, ALIASES, access_log=False) as (running, log):
            await chat(running.port, "mana/works")
            text = (await call(running.port, "GET /metrics")).body
            assert counted(text, "mana_llm_requests_total", model="mana/works") == 1
        assert log == []

    uvloop.run(main())


def test_lines_are_dropped_and_counted_when_nobody_reads_them():
    """A log that nobody reads costs lines, not answers, and the metric counts every line that is missing."""
    read, write = os.pipe()
    stuck = LineWriter(write, lambda count: b"%d lost\n" % count, bytes_max=4096)
    stuck.put(b"x" * 65536 + b"\n")

    async def main() -> None:
        async with gateway(lines=stuck) as running:
            for _ in range(3):
                assert (await chat(running.port, "openai/gpt-5-mini")).status == 200
            running.application.access_log.flush()
            text = (await call(running.port, "GET /metrics")).body
            assert counted(text, "mana_llm_log_lines_dropped_total") == 3
            found = b""
            while not found.endswith(b"lost\n"):
                found += os.read(read, 1 << 20)
            assert found == b"x" * 65536 + b"\n3 lost\n"

    uvloop.run(main())
    for end in (read, write):
        os.close(end)


def test_gateway_serves_when_its_standard_error_is_stuck(tmp_path):
    """A process whose standard error is a full pipe answers every request, and stops when it is told to."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 65536)
        except BlockingIOError:
            break
    os.set_blocking(write, True)

    async def main() -> None:
        async with served(tmp_path, write) as running:
            for _ in range(50):
                assert (await chat(running.port, "openai/gpt-5-mini")).status == 200
            running.process.terminate()
            assert await running.process.wait() == 0

    uvloop.run(main())
    for end in (read, write):
        os.close(end)


def test_line_keeps_time_when_its_clock_is_injected(tmp_path):
    """A line's time is the injected clock's at the request's end, to the millisecond; lines after a close leave."""

    class Nobody:
        request_ended = staticmethod(print)

    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    writer = LineWriter(file, lambda _: b"")

    async def main() -> None:
        log = AccessLog(Nobody(), writer, lambda: 1_000_000_000.25)
        for ended_s in (50.0, 51.5):
            exchange = Exchange(f"req-{ended_s}", 49.0)
            exchange.ended_s = ended_s
            log.request_ended(exchange)
        log.close()
        late = Exchange("late", 60.0)
        late.ended_s = 61.0
        log.request_ended(late)

    uvloop.run(main())
    assert writer.drain(WAIT_S)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="ascii").splitlines()]
    assert [line["time"][11:] for line in lines] == ["01:46:40.250Z", "01:46:41.750Z", "01:46:40.250Z"]
    assert [line["duration_ms"] for line in lines] == [1000.0, 2500.0, 1000.0]
    os.close(file)
