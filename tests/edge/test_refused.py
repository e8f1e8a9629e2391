"""What a connection refuses by itself is a request that ended: a line, a count, an id, and what all answers say."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from mana_llm.edge.memory import Memory
from mana_llm.edge.sockets import Descriptors
from tests.caller import counted
from tests.edge.wire import Client, chat, client, request, run
from tests.logged import logged

ID = "X-Request-Id: mine"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nX-Request-Id: mine\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"3e8\r\n%b\r\n" % (b"x" * 1000)
SETTINGS = {"body_bytes_max": 2000, "body_s": 0.3, "header_s": 0.3, "keep_alive_s": 0.3}

REFUSED = {
    "announced": (413, "mine", [chat(ID, body=b"x" * 5000)]),
    "chunked": (413, "mine", [CHUNKED + 3 * CHUNK]),
    "chunked slowly": (413, "mine", [CHUNKED, CHUNK, CHUNK, CHUNK]),
    "body late": (408, "mine", [HEAD + b"Content-Length: 100\r\n\r\n{"]),
    "body malformed": (400, "mine", [CHUNKED, b"nonsense\r\n"]),
    "headers large": (431, "mine", [request("GET", "/v1/models", None, ID, "A: " + "b" * 33_000)]),
    "headers late": (408, "mine", [HEAD + b"A: b"]),
    "line late": (408, None, [b"GET /v1/mo"]),
    "garbage": (400, None, [b"GARBAGE\r\n\r\n"]),
    "insane id": (413, None, [chat("X-Request-Id: <a>", body=b"x" * 5000)]),
    "two hosts": (400, "mine", [request("GET", "/v1/models", None, ID, "Host: other")]),
    "tunnel": (405, "mine", [b"CONNECT gateway:80 HTTP/1.1\r\nHost: gateway\r\nX-Request-Id: mine\r\n\r\n"]),
}


@asynccontextmanager
async def told(folder, **settings):
    """A client of a gateway, the log, and how often something was counted once the gateway has nothing to do."""
    async with logged(folder, **{**SETTINGS, **settings}) as (running, log), client(running.port) as one:

        async def count(name, **labels):
            async with asyncio.timeout(5):
                while counted(running.application.metrics.text(), "mana_llm_in_flight"):  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            return counted(running.application.metrics.text(), name, **labels)

        yield one, log, count


async def say(one: Client, pieces) -> None:
    """Each piece arrives by itself."""
    for piece in pieces:
        one.send(piece)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_is_a_request_when_the_connection_refuses(case, tmp_path):
    """One line and one count with the status that the client saw, by the id that the answer has: the client's if it
    came and can be shown. Nobody has left.
    """
    status, name, pieces = REFUSED[case]

    async def play():
        async with told(tmp_path) as (one, log, count):
            await say(one, pieces)
            answer = await one.answer()
            counts = [
                await count("mana_llm_requests_total", model="other", status=str(status)),
                await count("mana_llm_requests_total"),
                await count("mana_llm_request_duration_seconds_count"),
                await count("mana_llm_cancelled_total"),
            ]
        return answer, log, counts

    answer, (line,), counts = run(play())
    assert counts == [1, 1, 1, 0]
    assert (answer.status, line["status"]) == (status, status)
    assert answer.error["message"]
    assert answer.headers["x-request-id"] == line["request_id"]
    assert name is None or line["request_id"] == name
    assert name or line["request_id"].startswith("req-")
    assert line["error"] == "RequestError"
    assert answer.headers["x-mana-llm-config"] == line["config"]
    assert "gateway;dur=" in answer.headers["server-timing"]
    assert answer.headers["connection"] == "close"


def test_line_says_how_long_it_was_when_headers_were_late(tmp_path):
    """A request that never became whole lasted as long as it was waited for."""

    async def play():
        async with told(tmp_path) as (one, log, _):
            one.send(b"GET /v1/mo")
            await one.answer()
        return log

    (line,) = run(play())
    assert line["duration_ms"] >= 250


@pytest.mark.parametrize("before", [[], [request("GET", "/livez")]], ids=["new", "served"])
def test_idle_connection_is_no_request_when_it_times_out(before, tmp_path):
    """A connection on which nothing was begun ends without a line or a count."""

    async def play():
        async with told(tmp_path) as (one, log, count):
            await say(one, before)
            await one.ended()
            counts = await count("mana_llm_requests_total")
        return log, counts

    assert run(play()) == ([], 0)


def test_client_is_told_and_counted_when_descriptors_are_short(tmp_path, monkeypatch):
    """Who is turned away unread has a line as well: status 503, an id of ours, nothing else known."""
    monkeypatch.setattr(Descriptors, "short", lambda *_: True)

    async def play():
        async with told(tmp_path) as (one, log, count):
            answer = await one.answer()
            counts = await count("mana_llm_requests_total", model="other", status="503")
        return answer, log, counts

    answer, (line,), counts = run(play())
    assert (answer.status, line["status"], line["error"], counts) == (503, 503, "CrowdedError", 1)
    assert answer.headers["x-request-id"] == line["request_id"]
    assert "caller" not in line


def test_client_is_told_and_counted_when_memory_is_short(tmp_path, monkeypatch):
    """A body for which there is no room is a 503 with Retry-After, a line and a count, by the client's own id."""
    monkeypatch.setattr(Memory, "take", lambda *_: False)

    async def play():
        async with told(tmp_path, body_bytes_max=1 << 20) as (one, log, count):
            await say(one, [chat(ID, body=b"x" * 200_000)])
            answer = await one.answer()
            counts = await count("mana_llm_requests_total", model="other", status="503")
        return answer, log, counts

    answer, (line,), counts = run(play())
    assert (answer.status, line["status"], line["error"], counts) == (503, 503, "MemoryShortError", 1)
    assert (answer.headers["x-request-id"], line["request_id"]) == ("mine", "mine")
    assert answer.headers["retry-after"] == "1"


FOLLOWING = {
    "too large": (413, "mine", chat(ID, body=b"x" * 5000)),
    "grows too large": (413, "mine", CHUNKED + 3 * CHUNK),
    "garbage": (400, None, b"GARBAGE\r\n\r\n"),
}


@pytest.mark.parametrize("case", FOLLOWING)
def test_both_have_a_line_when_the_second_of_two_is_refused(case, tmp_path):
    """A refusal waits for the answers before it, and each has its own line."""
    status, name, second = FOLLOWING[case]

    async def play():
        async with told(tmp_path) as (one, log, _):
            one.send(chat("X-Request-Id: first") + second)
            answers = [await one.answer() for _ in range(2)]
            rest = await one.ended()
        return answers, log, rest

    answers, log, rest = run(play())
    assert [answer.status for answer in answers] == [200, status]
    names = [answer.headers["x-request-id"] for answer in answers]
    assert {line["request_id"]: line["status"] for line in log} == {"first": 200, names[1]: status}
    assert names[0] == "first" != names[1]
    assert name in (None, names[1])
    assert rest == b""


def test_client_that_leaves_is_499_when_its_body_was_not_whole(tmp_path):
    """Who leaves in the middle of its own body has left: nothing was refused."""

    async def play():
        async with told(tmp_path, body_s=5.0) as (one, log, count):
            await say(one, [HEAD + b"Content-Length: 100\r\n\r\n{"])
            one.close()
            async with asyncio.timeout(5):
                while not await count("mana_llm_cancelled_total"):  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
        return log

    (line,) = run(play())
    assert (line["status"], line["request_id"]) == (499, "mine")
