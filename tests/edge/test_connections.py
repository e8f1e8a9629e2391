"""One connection: bodies, upgrades, trailers, pipelines, limits, and how it ends."""

import pytest

from tests.edge.wire import HELLO, KEYS, ask, chat, chat_body, client, edge, request, run
from tests.world import gateway

CHUNKED_CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_body_arrives_when_an_upgrade_to_h2c_is_split_at_every_byte():
    """A POST that wishes for h2c, as Java's clients send it, is answered with its body wherever it is cut."""
    data = request("POST", "/a", b'{"a": 1}', *H2C)

    async def play():
        async with edge() as running:
            for index in range(1, len(data)):
                async with client(running.port) as one:
                    one.send(data[:index])
                    await one.writer.drain()
                    # The gateway has read the first part once it answers somebody who came later.
                    await ask(running.port, request("GET", "/later"))
                    one.send(data[index:])
                    answer = await one.answer()
                    assert (answer.status, answer.body) == (200, b'{"a": 1}')
            return [each for each in running.seen if each.path == "/a"]

    seen = run(play())
    assert len(seen) == len(data) - 1
    assert all(b"upgrade" not in dict(each.headers) for each in seen)


@pytest.mark.parametrize("wish", [H2C, WEBSOCKET])
def test_chat_is_answered_when_the_client_wishes_for_another_protocol(wish):
    """A chat with `Upgrade`, with a length or in chunks, is a 200, and the connection stays good for the next one."""

    async def play():
        async with gateway() as running, client(running.port) as one:
            chunked = CHUNKED_CHAT + "".join(f"{line}\r\n" for line in wish).encode() + b"\r\n"
            one.send(chat(*wish))
            first = await one.answer()
            one.send(chunked + chunk(chat_body()) + b"0\r\n\r\n")
            second = await one.answer()
            one.send(chat())
            return [first.status, second.status, (await one.answer()).status]

    assert run(play()) == [200, 200, 200]


def test_refusal_is_exact_when_a_request_with_an_upgrade_is_wrong():
    """What is wrong with a request is said although it wishes for another protocol."""

    async def play():
        async with edge(body_bytes_max=2048) as running:
            two_hosts = await ask(running.port, request("POST", "/", b"{}", *H2C, "Host: y"))
            large = await ask(running.port, request("POST", "/", b"x" * 4096, *H2C))
            return two_hosts, large

    two_hosts, large = run(play())
    assert (two_hosts.status, two_hosts.error["code"]) == (400, "invalid_host")
    assert (large.status, large.error["code"]) == (413, "body_too_large")


def test_trailer_is_no_header_when_it_holds_a_key():
    """A key in a trailer comes after the judgement: the request stays a 401."""
    body = chunk(chat_body()) + b"0\r\nAuthorization: Bearer secret\r\nX-Api-Key: secret\r\n\r\n"

    async def play():
        async with gateway(api_keys=KEYS) as running, edge() as noting:
            bare = await ask(running.port, CHUNKED_CHAT + b"\r\n" + body)
            good = await ask(running.port, CHUNKED_CHAT + b"Authorization: Bearer secret\r\n\r\n" + body)
            await ask(noting.port, CHUNKED_CHAT + b"\r\n" + body)
            return bare.status, good.status, noting.seen[0].headers

    bare, good, headers = run(play())
    assert (bare, good) == (401, 200)
    assert [name for name, _ in headers] == [b"host", b"transfer-encoding"]


def test_answers_come_in_order_when_requests_are_pipelined():
    """Ten chats in one write are answered one after the other, each with its own id."""

    async def play():
        async with gateway() as running, client(running.port) as one:
            one.send(b"".join(chat(f"X-Request-Id: n{index}", messages=HELLO * (10 - index)) for index in range(10)))
            return [(await one.answer()).headers["x-request-id"] for _ in range(10)]

    assert run(play()) == [f"n{index}" for index in range(10)]


def test_body_is_read_when_its_request_waited_for_its_turn():
    """A pipelined request whose body comes in many pieces gets it whole, though reading stopped meanwhile."""
    body = b"x" * 900_000

    async def play():
        async with edge(body_bytes_max=1 << 21) as running, client(running.port) as one:
            one.send(request("GET", "/a") + request("POST", "/b", body) + request("GET", "/c"))
            return [len((await one.answer()).body) for _ in range(3)], [each.path for each in running.seen]

    assert run(play()) == ([0, len(body), 0], ["/a", "/b", "/c"])


def test_continue_is_said_once_when_the_client_expects_it():
    """`Expect: 100-continue` gets its 100 before the body, then the answer; a 1.0 client gets no 100."""
    old = b"POST /v1/chat/completions HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%b"

    async def play():
        async with gateway() as running, client(running.port) as one:
            head, _, body = chat("Expect: 100-continue").partition(b"\r\n\r\n")
            one.send(head + b"\r\n\r\n")
            first = await one.answer()
            one.send(body)
            second = await one.answer()
            third = await ask(running.port, old % (len(chat_body()), chat_body()))
            return first.status, second.status, third.status

    assert run(play()) == (100, 200, 200)


def test_refusal_comes_instead_of_continue_when_the_body_is_not_wanted():
    """A body that is too large, or from nobody, is refused before it is sent."""

    async def play():
        async with gateway(api_keys=KEYS, body_bytes_max=2048) as running:
            lines = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
            large = await ask(running.port, f"{lines}9999\r\nAuthorization: Bearer secret\r\n\r\n".encode())
            nobody = await ask(running.port, f"{lines}99\r\n\r\n".encode())
            return large.status, nobody.status

    assert run(play()) == (413, 401)


@pytest.mark.parametrize("chunked", [False, True])
def test_client_reads_the_refusal_when_its_body_is_too_large(chunked):
    """A client that sends a large body to its end before it reads still gets the 413, and then the end."""
    body = b"x" * 3_000_000

    async def play():
        async with gateway(body_bytes_max=1_000_000) as running, client(running.port) as one:
            data = CHUNKED_CHAT + b"\r\n" + chunk(body[:900_000]) * 3 + b"0\r\n\r\n" if chunked else chat(body=body)
            one.send(data)
            await one.writer.drain()
            answer = await one.answer()
            return answer, await one.ended()

    answer, rest = run(play())
    assert (answer.status, answer.error["code"], rest) == (413, "body_too_large", b"")


def test_nothing_follows_the_answer_when_a_body_goes_on_after_a_401():
    """A refused client that goes on sending, well or badly, is read no further: one answer, then the end."""

    async def play():
        async with gateway(api_keys=KEYS, body_s=0.2) as running, client(running.port) as one:
            one.send(CHUNKED_CHAT + b"\r\n5\r\n")
            answer = await one.answer()
            one.send(b"not a chunk at all\r\n" * 10)
            return answer.status, await one.ended(4)

    assert run(play()) == (401, b"")


@pytest.mark.parametrize("status", [400, 404, 405, 415])
def test_connection_serves_on_when_a_request_was_refused(status):
    """A 4xx of the application leaves the connection good for the next request."""
    wrong = {
        400: chat(body=b"{"),
        404: request("GET", "/nowhere"),
        405: request("DELETE", "/v1/models"),
        415: chat("Content-Type: text/plain"),
    }

    async def play():
        async with gateway() as running, client(running.port) as one:
            one.send(wrong[status])
            first = await one.answer()
            one.send(chat())
            return first.status, (await one.answer()).status

    assert run(play()) == (status, 200)


def test_memory_stays_small_when_trailers_or_extensions_never_end():
    """What surrounds a body is bounded too: endless trailers and chunk extensions are refused."""

    async def refused(port: int, beginning: bytes) -> int:
        async with client(port) as one:
            one.send(CHUNKED_CHAT + b"\r\n" + beginning + b"x" * 200_000)
            return (await one.answer()).status

    async def play():
        async with edge() as running:
            return [
                await refused(running.port, start)
                for start in (b"0\r\nA: ", b"5;", b"0\r\n", b"5\r\nhello\r\n0\r\nA: ")
            ]

    assert run(play()) == [400] * 4


def test_tiny_chunks_are_one_body_when_there_are_many():
    """Thousands of chunks of one and two bytes, cut anywhere, are the body that was meant."""
    pieces = [b"a", b"bc"] * 5000

    async def play():
        async with edge() as running:
            data = CHUNKED_CHAT + b"\r\n" + b"".join(map(chunk, pieces)) + b"0\r\n\r\n"
            return (await ask(running.port, data)).body

    assert run(play()) == b"".join(pieces)


def test_nothing_is_pretended_when_the_application_breaks_midway():
    """An answer that cannot be finished is cut: no clean end, no second head on the same answer."""

    async def breaking(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def play():
        async with edge(breaking) as running, client(running.port) as one:
            one.send(request("GET", "/"))
            return await one.ended()

    came = run(play())
    assert came.count(b"HTTP/1.1") <= 1
    assert b"0\r\n\r\n" not in came
