"""The protocol, from a table of our own after the sections of RFC 9110 and 9112."""

import pytest

from tests.edge.wire import ask, client, edge, request, run

HOST = b"Host: x\r\n"
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n"
GET = b"GET /here HTTP/1.1\r\n"
POST = b"POST /here HTTP/1.1\r\n"

# (what, section, bytes, expected status). Every refusal is in OpenAI's shape and ends the connection.
CASES = [
    ("a plain GET", "9112 3", GET + HOST + b"\r\n", 200),
    ("an empty line before", "9112 2.2", b"\r\n" + GET + HOST + b"\r\n", 200),
    ("two empty lines before", "9112 2.2", b"\r\n\r\n" + GET + HOST + b"\r\n", 200),
    ("a method in lower case", "9110 9.1", b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("an unknown method", "9110 9.1", b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a method with a separator", "9110 5.6.2", b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("no method", "9112 3", b" / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("no target", "9112 3", b"GET HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a target with a space", "9112 3.2", b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a target with a tab", "9112 3.2", b"GET /a\tb HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a target with NUL", "9112 3.2", b"GET /a\0b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a target beyond ASCII", "9112 3.2", b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("an absolute target", "9112 3.2.2", b"GET http://x/here HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    ("an absolute target with a query", "9112 3.2.2", b"GET http://x/here?a=1 HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    ("an absolute target without a path", "9112 3.2.2", b"GET http://x HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    ("an authority as target", "9112 3.2.3", b"GET x:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("CONNECT", "9110 9.3.6", b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    ("OPTIONS *", "9112 3.2.4", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    ("HEAD", "9110 9.3.2", b"HEAD /here HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    ("HTTP/1.0 without Host", "9112 3.2", b"GET /here HTTP/1.0\r\n\r\n", 200),
    ("HTTP/0.9 without a version", "9112 3", b"GET /here\r\n\r\n", 505),
    ("HTTP/1.2", "9112 2.3", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    ("HTTP/2.0", "9112 2.3", b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    ("HTTP/9.9", "9112 2.3", b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 400),
    ("HTTP/2's preface", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("HTTP in lower case", "9112 2.3", b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    ("no number in the version", "9112 2.3", b"GET / HTTP/\r\n" + HOST + b"\r\n", 400),
    ("space after the version", "9112 3", b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
    ("a bare LF after the request line", "9112 2.2", b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400),
    ("a bare LF after a header", "9112 2.2", GET + b"Host: x\n\r\n", 400),
    ("a bare CR in a value", "9112 2.2", GET + HOST + b"A: b\rc\r\n\r\n", 400),
    ("no Host", "9112 3.2", GET + b"\r\n", 400),
    ("two Hosts", "9112 3.2", GET + HOST + HOST + b"\r\n", 400),
    ("two different Hosts", "9112 3.2", GET + HOST + b"Host: y\r\n\r\n", 400),
    ("a Host with a space", "9112 3.2", GET + b"Host: x y\r\n\r\n", 400),
    ("a Host with a path", "9112 3.2", GET + b"Host: x/y\r\n\r\n", 400),
    ("a Host with a user", "9112 3.2", GET + b"Host: user@x\r\n\r\n", 400),
    ("an empty Host", "9112 3.2", GET + b"Host:\r\n\r\n", 200),
    ("a Host with a port", "9112 3.2", GET + b"Host: x:3025\r\n\r\n", 200),
    ("an IPv6 Host", "9112 3.2", GET + b"Host: [::1]:3025\r\n\r\n", 200),
    ("space before the colon", "9112 5.1", GET + HOST + b"A : b\r\n\r\n", 400),
    ("tab before the colon", "9112 5.1", GET + HOST + b"A\t: b\r\n\r\n", 400),
    ("space before the first header", "9112 2.2", GET + b" A: b\r\n" + HOST + b"\r\n", 400),
    ("a folded line", "9112 5.2", GET + HOST + b"A: b\r\n c\r\n\r\n", 400),
    ("no name", "9112 5", GET + HOST + b": b\r\n\r\n", 400),
    ("no colon", "9112 5", GET + HOST + b"A\r\n\r\n", 400),
    ("a separator in a name", "9110 5.1", GET + HOST + b"A(b: c\r\n\r\n", 400),
    ("a name beyond ASCII", "9110 5.1", GET + HOST + b"\xc3\xa4: b\r\n\r\n", 400),
    ("NUL in a name", "9110 5.5", GET + HOST + b"A\0: b\r\n\r\n", 400),
    ("NUL in a value", "9110 5.5", GET + HOST + b"A: b\0c\r\n\r\n", 400),
    ("a control byte in a value", "9110 5.5", GET + HOST + b"A: b\x01c\r\n\r\n", 400),
    ("a value beyond ASCII", "9110 5.5", GET + HOST + b"A: \xc3\xa4\r\n\r\n", 200),
    ("an empty value", "9110 5.5", GET + HOST + b"A:\r\n\r\n", 200),
    ("no space after the colon", "9112 5", GET + b"Host:x\r\n\r\n", 200),
    ("tabs around a value", "9112 5", GET + b"Host:\tx\t\r\n\r\n", 200),
    ("100 headers", "9110 5.4", GET + HOST + b"A: b\r\n" * 99 + b"\r\n", 200),
    ("101 headers", "6585 5", GET + HOST + b"A: b\r\n" * 100 + b"\r\n", 431),
    ("30 KiB of one header", "9110 5.4", GET + HOST + b"A: " + b"b" * 30_000 + b"\r\n\r\n", 200),
    ("33 KiB of one header", "6585 5", GET + HOST + b"A: " + b"b" * 33_000 + b"\r\n\r\n", 431),
    ("10 MB of one header", "6585 5", GET + HOST + b"A: " + b"b" * 10_000_000, 431),
    ("10 MB of a target", "9112 3", b"GET /" + b"b" * 10_000_000, 431),
    ("10 MB of a header's name", "6585 5", GET + HOST + b"b" * 10_000_000, 431),
    ("a body", "9112 6.2", POST + HOST + b"Content-Length: 5\r\n\r\nhello", 200),
    ("an empty body", "9112 6.2", POST + HOST + b"Content-Length: 0\r\n\r\n", 200),
    ("a negative length", "9110 8.6", POST + HOST + b"Content-Length: -5\r\n\r\nhello", 400),
    ("a length with a plus", "9110 8.6", POST + HOST + b"Content-Length: +5\r\n\r\nhello", 400),
    ("a length in hex", "9110 8.6", POST + HOST + b"Content-Length: 0x5\r\n\r\nhello", 400),
    ("a length with a point", "9110 8.6", POST + HOST + b"Content-Length: 5.0\r\n\r\nhello", 400),
    ("an empty length", "9110 8.6", POST + HOST + b"Content-Length: \r\n\r\n", 400),
    ("a length of words", "9110 8.6", POST + HOST + b"Content-Length: five\r\n\r\nhello", 400),
    ("two lengths", "9112 6.3", POST + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    ("the same length twice", "9112 6.3", POST + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("a list of lengths", "9112 6.3", POST + HOST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    ("a length beyond 64 bits", "9112 6.3", POST + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    ("a length beyond the limit", "9110 15.5.14", POST + HOST + b"Content-Length: 99999999\r\n\r\n", 413),
    ("chunks", "9112 7.1", POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n", 200),
    ("chunks, sizes in capitals", "9112 7.1", POST + CHUNKED + b"\r\nA\r\nhellohello\r\n0\r\n\r\n", 200),
    ("a chunk's extension", "9112 7.1.1", POST + CHUNKED + b'\r\n5;a="b"\r\nhello\r\n0\r\n\r\n', 200),
    ("a trailer", "9112 7.1.2", POST + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n", 200),
    ("Chunked in capitals", "9112 7", POST + HOST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", 200),
    ("a chunk size of words", "9112 7.1", POST + CHUNKED + b"\r\nfive\r\nhello\r\n0\r\n\r\n", 400),
    ("a negative chunk size", "9112 7.1", POST + CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n", 400),
    ("a chunk size with 0x", "9112 7.1", POST + CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
    ("a chunk size beyond 64 bits", "9112 7.1", POST + CHUNKED + b"\r\n" + b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n", 400),
    ("an empty chunk size", "9112 7.1", POST + CHUNKED + b"\r\n\r\nhello\r\n0\r\n\r\n", 400),
    ("a chunk longer than it says", "9112 7.1", POST + CHUNKED + b"\r\n4\r\nhello\r\n0\r\n\r\n", 400),
    ("a chunk ended by LF", "9112 7.1", POST + CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n", 400),
    ("length and chunks", "9112 6.3", POST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n", 400),
    ("an unknown coding", "9112 6.1", POST + HOST + b"Transfer-Encoding: brotli\r\n\r\n", 501),
    ("a coding before chunked", "9112 6.1", POST + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("a coding after chunked", "9112 6.3", POST + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    ("chunks in 1.0", "9112 6.1", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("another Expect", "9110 10.1.1", GET + HOST + b"Expect: tea\r\n\r\n", 200),
    ("Upgrade to nothing known", "9110 7.8", GET + HOST + b"Connection: upgrade\r\nUpgrade: tea\r\n\r\n", 200),
    ("bytes of TLS", "9112 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("words", "9112 3", b"hello there\r\n\r\n", 400),
]


async def verdict(port: int, data: bytes, expected: int) -> str | None:
    """What is wrong with the answer, None if nothing is."""
    async with client(port) as one:
        one.send(data)
        answer = await one.answer(bodiless=data.startswith(b"HEAD"))
        if answer.status != expected:
            return f"{answer.status} instead of {expected}"
        if expected != 200:
            assert answer.error["type"] == "invalid_request_error"
            assert answer.headers["connection"] == "close"
            return await one.ended() or None
    return None


def test_connection_answers_as_the_rfcs_say_when_fed_our_table():
    """R45 (96 of 33): each case of our own table gets the status that its RFC section asks for; refusals close."""

    async def play():
        async with edge() as running:
            return {what: found for what, _, data, want in CASES if (found := await verdict(running.port, data, want))}

    assert run(play()) == {}
    assert len(CASES) >= 33


@pytest.mark.parametrize("case", [0, 12, 31, 40, 62, 75, 79, 84])
def test_connection_answers_the_same_when_a_case_comes_byte_by_byte(case):
    """A request that comes one byte at a time gets the same status as in one piece."""
    _, _, data, expected = CASES[case]

    async def play():
        async with edge() as running, client(running.port) as one:
            for index in range(len(data)):
                one.send(data[index : index + 1])
                await one.writer.drain()
            return (await one.answer()).status

    assert run(play()) == expected


def test_head_has_no_body_when_asked():
    """HEAD gets the length of what GET would get, and no byte of it; the connection goes on."""

    async def play():
        async with edge() as running, client(running.port) as one:
            one.send(request("HEAD", "/a", b"hello") + request("GET", "/b"))
            head = await one.answer(bodiless=True)
            return head.headers["content-length"], (await one.answer()).headers["x-path"]

    assert run(play()) == ("5", "/b")


def test_http_1_0_gets_no_chunks_when_the_length_is_unknown():
    """An answer without a length ends with the connection for a 1.0 client, which knows no chunks."""

    async def streaming(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"tick ", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def play():
        async with edge(streaming) as running:
            old = await ask(running.port, b"GET / HTTP/1.0\r\n\r\n")
            new = await ask(running.port, request("GET", "/"))
            return old, new

    old, new = run(play())
    assert "transfer-encoding" not in old.headers
    assert old.headers["connection"] == "close"
    assert new.headers["transfer-encoding"] == "chunked"
    assert old.body == new.body == b"tick tick tick "
