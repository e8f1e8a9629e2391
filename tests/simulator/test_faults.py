import asyncio
import gzip
import json

import pytest

from mana_llm.simulator import Fault, Script
from tests.simulator.raw import ask, connect, events, http, request_bytes, run

DIALECTS = ["openai", "ollama", "gemini"]
FLAVOURS = [*DIALECTS, "groq", "openrouter", "together"]


def texts(body):
    """The pieces of content that a streamed body carries, whatever the dialect."""
    pieces = []
    for item in events(body):
        if item == "[DONE]" or "error" in item:
            continue
        pieces += [choice["delta"].get("content") for choice in item.get("choices") or ()]
        for candidate in item.get("candidates") or ():
            pieces += [part.get("text") for part in candidate["content"].get("parts", ())]
        pieces.append((item.get("message") or {}).get("content"))
    return [piece for piece in pieces if piece]


@pytest.mark.parametrize("dialect", FLAVOURS)
@pytest.mark.parametrize("stream", [True, False])
def test_answer_is_complete_when_nothing_is_scripted(dialect, stream):
    """An ordinary name gets a whole answer that is marked as simulated and echoes the user."""

    async def check(simulator):
        status, _, body = await ask(simulator, request_bytes(dialect, "m", stream=stream))
        assert status == 200
        said = "".join(texts(body)) if stream else body.decode()
        assert "[simulated] m heard: hello there" in said
        assert simulator.log[-1].ended == "complete"
        assert simulator.log[-1].bytes_sent > len(body)

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_cut_is_an_early_eof_when_it_is_by_fin(dialect, stream):
    """A FIN in the middle of the body ends it without its last chunk or its full length."""

    async def check(simulator):
        one = await connect(simulator, request_bytes(dialect, "sim.cut.after-1.how-fin", stream=stream))
        _, headers = await one.head()
        rest = await one.rest()
        assert rest
        assert not rest.endswith(b"0\r\n\r\n")
        assert len(rest) < int(headers.get("content-length", 10**6))
        assert simulator.log[-1].ended == "aborted"

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_cut_is_a_reset_when_it_is_by_rst(dialect, stream):
    """A reset reaches the client as ConnectionResetError."""

    async def check(simulator):
        one = await connect(simulator, request_bytes(dialect, "sim.cut.after-1.how-rst", stream=stream))
        await one.head()
        with pytest.raises(ConnectionResetError):
            await one.rest()

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_cut_leaves_broken_json_when_it_is_by_json(dialect):
    """A truncated line ends a body that HTTP calls complete."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes(dialect, "sim.cut.after-2.how-json"))
        last = body.strip().splitlines()[-1].removeprefix(b"data: ")
        with pytest.raises(json.JSONDecodeError):
            json.loads(last)

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_cut_ends_cleanly_when_it_is_clean(dialect):
    """A clean cut is a complete HTTP body with neither a finish nor [DONE] in it."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes(dialect, "sim.cut.after-2.how-clean"))
        assert len(texts(body)) == 2
        assert b"[DONE]" not in body
        assert b"done_reason" not in body
        assert b"finishReason" not in body

    run(check)


def test_cut_half_closes_when_it_is_by_half():
    """A half-closed answer ends for the reader while the socket stays open at the other side."""

    async def check(simulator):
        one = await connect(simulator, request_bytes("openai", "sim.cut.after-1.how-half"))
        await one.head()
        assert await one.rest()
        assert simulator.open_connections == 1
        one.close()
        await simulator.wait_until(lambda: simulator.open_connections == 0)

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("how", ["headers", "body", "role", "chunks"])
def test_hang_lasts_until_the_client_leaves_when_it_is_scripted(dialect, how):
    """A hanging answer sends what it should, then nothing, and notices when the client closes."""

    async def check(simulator):
        one = await connect(simulator, request_bytes(dialect, f"sim.hang.after-1.how-{how}"))
        await simulator.wait_until(lambda: bool(simulator.log))
        entry = simulator.log[-1]
        if how != "headers":
            await one.head()
        if how == "chunks" or (how == "role" and dialect == "openai"):
            await one.reader.readline()
        one.close()
        await simulator.wait_until(lambda: entry.ended != "open")
        assert entry.ended == "client-closed"
        assert entry.closed_at >= entry.received_at
        assert (entry.bytes_sent == 0) is (how == "headers")

    run(check)


@pytest.mark.parametrize("dialect", FLAVOURS)
@pytest.mark.parametrize("code", [400, 401, 404, 408, 429, 500, 502, 503, 529])
def test_status_has_an_error_body_when_it_is_scripted(dialect, code):
    """A scripted status comes with the dialect's own error member."""

    async def check(simulator):
        status, _, body = await ask(simulator, request_bytes(dialect, f"sim.status.code-{code}"))
        assert status == code
        assert json.loads(body)["error"]

    run(check)


def test_retry_after_is_in_its_place_when_it_is_scripted():
    """OpenAI and Ollama say when to retry in a header, Gemini in RetryInfo."""

    async def check(simulator):
        for dialect in DIALECTS:
            name = "sim.status.code-429.retry-34.4"
            _, headers, body = await ask(simulator, request_bytes(dialect, name))
            if dialect == "gemini":
                assert "retry-after" not in headers
                assert json.loads(body)["error"]["details"][-1]["retryDelay"] == "34.4s"
            else:
                assert headers["retry-after"] == "34.4"

    run(check)


@pytest.mark.parametrize("dialect", FLAVOURS)
def test_error_arrives_in_band_when_it_is_scripted(dialect):
    """An error after two pieces is the last thing but [DONE] in a stream that began with 200."""

    async def check(simulator):
        status, _, body = await ask(simulator, request_bytes(dialect, "sim.error.after-2.code-503"))
        found = events(body)
        assert status == 200
        assert len(texts(body)) == 2
        assert any("error" in item for item in found[-2:])
        assert (found[-1] == "[DONE]") is (dialect == "openrouter")
        assert (b"event: error" in body) is (dialect == "groq")

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_malformed_line_stands_alone_when_it_is_scripted(dialect):
    """One broken line comes between good ones, and the stream goes on to its end."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes(dialect, "sim.malformed.after-1"))
        lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line and line[0] != b":"]
        broken = [line for line in lines if line != b"[DONE]" and not _is_json(line)]
        assert len(broken) == 1
        assert lines[-1] == b"[DONE]" or _is_json(lines[-1])

    run(check)


def _is_json(line):
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def test_drip_sends_single_bytes_when_it_is_scripted():
    """A dripping answer is whole in the end."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes("openai", "sim.drip.drip-0.00001", stream=False))
        assert json.loads(body)["choices"]

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_html_replaces_the_answer_when_it_is_scripted(dialect, stream):
    """A captive portal's page is a 200 of HTML."""

    async def check(simulator):
        status, headers, body = await ask(simulator, request_bytes(dialect, "sim.html", stream=stream))
        assert status == 200
        assert headers["content-type"].startswith("text/html")
        assert body.startswith(b"<!doctype html>")

    run(check)


def test_content_type_is_wrong_when_it_is_scripted():
    """The right body comes under another content type."""

    async def check(simulator):
        _, headers, body = await ask(simulator, request_bytes("openai", "sim.type.how-text-plain"))
        assert headers["content-type"] == "text/plain"
        assert events(body)[-1] == "[DONE]"

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sim.empty", {"openai": "stop", "ollama": "stop", "gemini": "STOP"}),
        ("sim.length", {"openai": "length", "ollama": "length", "gemini": "MAX_TOKENS"}),
        ("sim.filter.how-candidate", {"openai": "content_filter", "ollama": "stop", "gemini": "SAFETY"}),
    ],
)
def test_finish_comes_without_content_when_it_is_scripted(dialect, name, words):
    """An answer may end, at its ceiling or by a filter, before it said anything."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes(dialect, name))
        assert texts(body) == []
        assert f'"{words[dialect]}"'.encode() in body

    run(check)


def test_prompt_is_blocked_when_gemini_filters_at_once():
    """Gemini's blocked prompt has feedback and no candidates."""

    async def check(simulator):
        for stream in (True, False):
            _, _, body = await ask(simulator, request_bytes("gemini", "sim.filter", stream=stream))
            answer = events(body)[0] if stream else json.loads(body)
            assert answer["promptFeedback"]["blockReason"]
            assert "candidates" not in answer

    run(check)


def test_filter_follows_content_when_after_is_given():
    """A filter in the middle keeps what was said before it."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes("openai", "sim.filter.after-2"))
        assert len(texts(body)) == 2
        assert b"content_filter" in body

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["sim.flood", "sim.flood.how-line"])
def test_flood_never_ends_when_it_is_endless(dialect, name):
    """A flood goes on until the client leaves."""

    async def check(simulator):
        one = await connect(simulator, request_bytes(dialect, name))
        await one.head()
        await one.reader.readexactly(300_000)
        one.close()
        await simulator.wait_until(lambda: simulator.log[-1].ended == "client-closed")

    run(check)


def test_flood_has_its_size_when_bytes_are_given():
    """One data event may be as large as wanted and is good JSON."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes("openai", "sim.flood.how-event.size-300000"))
        assert max(len(line) for line in body.splitlines()) > 300_000
        assert events(body)[-1] == "[DONE]"

    run(check)


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        ("cookie", b"Set-Cookie: session"),
        ("hop", b"Connection: X-Listed"),
        ("te", b"Transfer-Encoding: identity"),
        ("latin1", "caf\xe9".encode("latin-1")),
        ("interim.count-7", b"103 Early Hints"),
        ("many.count-300", b"X-Simulated-299: 1"),
        ("big.size-20000", b"x" * 20000),
    ],
)
def test_headers_are_bad_when_they_are_scripted(how, seen):
    """The head carries what no good upstream would send."""

    async def check(simulator):
        one = await connect(simulator, request_bytes("openai", f"sim.headers.how-{how}", stream=False))
        raw = await one.reader.readuntil(b'"usage"')
        assert seen in raw
        one.close()

    run(check)


def test_redirect_points_inside_when_it_is_scripted():
    """A redirect leads to the cloud's metadata address unless told otherwise."""

    async def check(simulator):
        status, headers, _ = await ask(simulator, request_bytes("gemini", "sim.redirect.code-307"))
        assert status == 307
        assert headers["location"].startswith("http://169.254.169.254/")

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_gzip_comes_unasked_when_it_is_scripted(dialect, stream):
    """A body is packed although identity was asked for."""

    async def check(simulator):
        _, headers, body = await ask(simulator, request_bytes(dialect, "sim.gzip", stream=stream))
        assert headers["content-encoding"] == "gzip"
        assert b"simulated" in gzip.decompress(body)

    run(check)


def test_gzip_bomb_unpacks_large_when_it_is_scripted():
    """A small body unpacks to a large one."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes("openai", "sim.gzip.how-bomb.size-5000000"))
        assert len(body) < 50_000
        assert len(gzip.decompress(body)) >= 5_000_000

    run(check)


def test_body_ends_with_the_connection_when_undelimited():
    """A body with neither length nor chunks is ended by EOF."""

    async def check(simulator):
        one = await connect(simulator, request_bytes("openai", "sim.undelimited", stream=False))
        _, headers = await one.head()
        assert "content-length" not in headers
        assert "transfer-encoding" not in headers
        assert json.loads(await one.rest())["choices"]
        assert simulator.log[-1].ended == "complete"

    run(check)


def test_length_is_a_lie_when_overlong():
    """The body is shorter than its Content-Length said."""

    async def check(simulator):
        one = await connect(simulator, request_bytes("ollama", "sim.overlong.size-9", stream=False))
        _, headers = await one.head()
        assert int(headers["content-length"]) == len(await one.rest()) + 9

    run(check)


@pytest.mark.parametrize("stream", [True, False])
def test_answer_is_null_when_it_is_scripted(stream):
    """Choices, message and candidates may be null."""

    async def check(simulator):
        for dialect, member in (("openai", "choices"), ("ollama", "message"), ("gemini", "candidates")):
            _, _, body = await ask(simulator, request_bytes(dialect, "sim.null", stream=stream))
            answer = events(body)[0] if stream else json.loads(body)
            assert answer[member] is None

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
def test_usage_is_no_count_when_it_is_scripted(dialect, stream):
    """Token counts may be negative or no number at all."""

    async def check(simulator):
        more = {"stream_options": {"include_usage": True}} if dialect == "openai" and stream else {}
        for how, seen in (("negative", b":-5"), ("nan", b":NaN")):
            request = request_bytes(dialect, f"sim.usage.how-{how}", stream=stream, **more)
            assert seen in (await ask(simulator, request))[2]

    run(check)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_last_mark_is_missing_when_no_done_is_scripted(dialect):
    """A stream may lack its very last mark: [DONE], or the line that says done."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes(dialect, "sim.no-done"))
        assert b"[DONE]" not in body
        assert b"done_reason" not in body
        assert b"finishReason" not in body
        assert (b'"finish_reason":"stop"' in body) is (dialect == "openai")

    run(check)


def test_finish_is_missing_when_no_finish_is_scripted():
    """A stream may reach [DONE] without a finish reason."""

    async def check(simulator):
        _, _, body = await ask(simulator, request_bytes("openai", "sim.no-finish"))
        assert events(body)[-1] == "[DONE]"
        assert b'"finish_reason":"stop"' not in body

    run(check)


def test_idle_connection_gets_bytes_when_it_is_scripted():
    """After a whole answer bytes arrive that nobody asked for."""

    async def check(simulator):
        one = await connect(simulator, request_bytes("openai", "sim.idle-bytes.wait-0.01", stream=False))
        await one.answer()
        assert simulator.log[-1].ended == "complete"
        assert (await one.reader.readline()).startswith(b"HTTP/1.1 408")
        one.close()

    run(check)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_idle_connection_closes_when_close_is_scripted(how):
    """A keep-alive answer may be followed by an end of the connection at once."""

    async def check(simulator):
        one = await connect(simulator, request_bytes("openai", f"sim.close.how-{how}", stream=False))
        _, headers = await one.head()
        assert "connection" not in headers
        if how == "fin":
            assert json.loads(await one.rest())
        else:
            with pytest.raises(ConnectionResetError):
                await one.rest()
        assert simulator.log[-1].ended == "complete"

    run(check)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_next_request_finds_a_dead_connection_when_it_is_scripted(how):
    """The first request is answered; the second on the same connection gets an end and no answer."""

    async def check(simulator):
        request = request_bytes("openai", f"sim.dead.how-{how}", stream=False)
        one = await connect(simulator, request)
        await one.answer()
        one.writer.write(request)
        if how == "fin":
            assert await one.rest() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await one.rest()
        assert len(simulator.log) == 1

    run(check)


def test_connection_is_reset_when_everything_is_refused():
    """A rule that refuses all resets a connection before it was asked anything."""

    async def check(simulator):
        simulator.script("sim.refuse", times=1)
        one = await connect(simulator)
        with pytest.raises(ConnectionResetError):
            await one.rest()
        assert (await ask(simulator, http("GET", "/api/version")))[0] == 200

    run(check)


def test_connection_is_reset_when_a_model_is_refused():
    """A model that refuses resets the connection once the request is read."""

    async def check(simulator):
        one = await connect(simulator, request_bytes("gemini", "sim.refuse"))
        with pytest.raises(ConnectionResetError):
            await one.rest()

    run(check)


def test_port_is_closed_when_listening_stops():
    """A stopped listener refuses connections and starts again at the same port."""

    async def check(simulator):
        await simulator.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await connect(simulator)
        await simulator.start_listening()
        assert (await ask(simulator, http("GET", "/api/version")))[0] == 200

    run(check)


def test_answer_comes_in_slices_when_it_is_scripted():
    """An answer cut into small writes is the same answer."""

    async def check(simulator):
        script = Script(text="whole", slice_bytes=3)
        simulator.script(script)
        _, _, body = await ask(simulator, request_bytes("openai", "m"))
        assert "".join(texts(body)) == "whole"

    run(check)


def test_script_reads_arbitrary_retry_after_when_given_as_a_struct():
    """A script may say any Retry-After, a date for instance."""

    async def check(simulator):
        date = "Wed, 21 Oct 2026 07:28:00 GMT"
        simulator.script(Script(fault=Fault(kind="status", code=503, retry_after=date)))
        _, headers, _ = await ask(simulator, http("GET", "/v1/models"))
        assert headers["retry-after"] == date

    run(check)


def test_client_that_leaves_is_seen_when_the_answer_is_slow():
    """A client that leaves between pieces is logged with the time at which it was seen."""

    async def check(simulator):
        one = await connect(simulator, request_bytes("ollama", "sim.ok.chunks-5.pace-5"))
        await one.head()
        await one.reader.readline()
        one.close()
        await simulator.wait_until(lambda: simulator.log[-1].ended == "client-closed")
        assert simulator.log[-1].closed_at <= asyncio.get_running_loop().time()

    run(check)
