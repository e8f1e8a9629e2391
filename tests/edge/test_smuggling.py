"""Requests that two servers would read differently: one reading here, or none."""

import asyncio
import itertools
import shutil

import pytest

from tests.edge.wire import ask, client, edge, request, run

HEAD = b"POST /outer HTTP/1.1\r\nHost: x\r\n"
INNER = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

# Spellings of Transfer-Encoding that some servers take for chunked and others do not (RFC 9112 section 6.1).
CODINGS = [
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:\n chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: chunked\0",
    b"Transfer-Encoding\0: chunked",
    b"Transfer_Encoding\0: chunked",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chun\r\n ked",
    b"A: b\nTransfer-Encoding: chunked",
    b"A: b\rTransfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: \xffchunked",
    b"Transfer-Encoding: chunked\x85",
]
# Spellings of a length that some servers read and others skip (RFC 9112 section 6.3).
LENGTHS = [
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: 0x5",
    b"Content-Length: 5,5",
    b"Content-Length: 5, 6",
    b"Content-Length: 5 6",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 6\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length : 5",
    b"Content-Length\t: 5",
    b" Content-Length: 5",
    b"Content-Length:\r\n 5",
    b"Content-Length: 5\0",
    b"Content-Length: 5\x0b",
    b"Content-Length: 5.0",
    b"Content-Length: 5e0",
    b"Content-Length: 1_0",
    b"Content-Length: 5;a",
    b"Content-Length: \xc2\xb25",
    b"A: b\nContent-Length: 5",
    b"A: b\rContent-Length: 5",
    b"Content-Length: 18446744073709551621",
    b"Content-Length: " + b"9" * 40,
]
# Bodies in chunks that some servers end elsewhere (RFC 9112 section 7.1).
CHUNKS = [
    b"5;a\nhello\r\n0\r\n\r\n",
    b"5;\nhello\r\n0\r\n\r\n",
    b"5;a\rhello\r\n0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5\t\r\nhello\r\n0\r\n\r\n",
    b"5_\r\nhello\r\n0\r\n\r\n",
    b"5\0\r\nhello\r\n0\r\n\r\n",
    b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    b"5,5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\n\r\n",
    b"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
    b"5\r\nhello\r\n0\r\nA: b\n\r\n",
    b"5\r\nhello\r\n0\r\n A: b\r\n\r\n",
]
TE = b"Transfer-Encoding: chunked"
CL = b"Content-Length: 5"


def payloads() -> list[tuple[str, bytes]]:
    """Every obfuscation in every position where it can hide a second request; each must be refused."""
    found = []
    for coding in CODINGS:
        found += [
            ("TE alone", HEAD + coding + b"\r\n\r\n" + HELLO + INNER),
            ("TE, then CL", HEAD + coding + b"\r\n" + CL + b"\r\n\r\n" + HELLO + INNER),
            ("CL, then TE", HEAD + CL + b"\r\n" + coding + b"\r\n\r\n" + HELLO + INNER),
            ("TE before Host", b"POST / HTTP/1.1\r\nA: b\r\n" + coding + b"\r\nHost: x\r\n\r\n" + HELLO + INNER),
        ]
    for length in LENGTHS:
        found += [
            ("CL alone", HEAD + length + b"\r\n\r\nhello" + INNER),
            ("CL, then TE", HEAD + length + b"\r\n" + TE + b"\r\n\r\n" + HELLO + INNER),
            ("TE, then CL", HEAD + TE + b"\r\n" + length + b"\r\n\r\n" + HELLO + INNER),
        ]
    found += [("chunks", HEAD + TE + b"\r\n\r\n" + chunks + INNER) for chunks in CHUNKS]
    found += [
        ("1.0", b"POST / HTTP/1.0\r\nHost: x\r\n" + TE + b"\r\n" + more + b"\r\n" + HELLO + INNER)
        for more in (b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n")
    ]
    both = itertools.permutations((TE, CL))
    found += [("CL and TE", HEAD + b"\r\n".join(lines) + b"\r\n\r\n" + HELLO + INNER) for lines in both]
    return found


PAYLOADS = payloads()


async def refused(port: int, data: bytes) -> bool:
    """Whether the only answer is a refusal in OpenAI's shape, and the connection then ends."""
    async with client(port) as one:
        one.send(data)
        answer = await one.answer()
        return answer.status in (400, 501) and bool(answer.error) and not await one.ended()


def test_no_request_is_smuggled_when_its_length_is_ambiguous():
    """R46 (217 of 150): ambiguous requests are refused and closed, and the application sees none of them."""

    async def play():
        async with edge() as running:
            wrong = [(where, data) for where, data in PAYLOADS if not await refused(running.port, data)]
            return wrong, running.seen

    wrong, seen = run(play())
    assert wrong == []
    assert seen == []
    assert len(PAYLOADS) >= 150


def test_no_request_is_smuggled_when_a_good_one_comes_first():
    """R46 (217 of 150): behind a good request on the same connection, the application sees the good one alone."""

    async def play():
        async with edge() as running:
            for _, data in PAYLOADS:
                async with client(running.port) as one:
                    one.send(request("POST", "/good", b"hello") + data)
                    assert (await one.answer()).status == 200
                    assert (await one.answer()).status in (400, 501)
                    assert await one.ended() == b""
            return running.seen

    seen = run(play())
    assert [(each.path, each.body) for each in seen] == [("/good", b"hello")] * len(PAYLOADS)


def test_requests_seen_are_requests_sent_when_all_are_plain():
    """Pipelined requests with every kind of body arrive as they were sent, and are answered in order."""
    bodies = [
        request("POST", "/0", b"zero"),
        b"POST /1 HTTP/1.1\r\nHost: x\r\n" + TE + b"\r\n\r\n4\r\none!\r\n0\r\n\r\n",
        request("GET", "/2"),
        request("POST", "/3", INNER),
        b"POST /4 HTTP/1.1\r\nHost: x\r\n" + TE + b"\r\n\r\n%x\r\n%b\r\n0\r\nX-Sum: 9\r\n\r\n" % (len(INNER), INNER),
        request("GET", "/5"),
    ]

    async def play():
        async with edge() as running, client(running.port) as one:
            one.send(b"".join(bodies))
            answers = [await one.answer() for _ in bodies]
            return [each.headers["x-path"] for each in answers], running.seen

    paths, seen = run(play())
    assert paths == [each.path for each in seen] == ["/0", "/1", "/2", "/3", "/4", "/5"]
    assert [each.body for each in seen] == [b"zero", b"one!", b"", INNER, INNER, b""]


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr crit;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  keepalive_timeout 0; lingering_close off;
  server {{ listen 127.0.0.1:{front}; location / {{
    proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}
"""


@pytest.mark.long
def test_no_request_is_smuggled_when_nginx_stands_before(tmp_path):
    """R46 (217 of 150): behind nginx, which may read a payload its own way, the application sees no inner request."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if nginx is None:
        pytest.skip("nginx is not installed")

    async def play():
        front = 20_000 + tmp_path.stat().st_ino % 20_000
        async with edge() as running:
            (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, front=front, port=running.port))
            command = (nginx, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path))
            process = await asyncio.create_subprocess_exec(*command)
            try:
                await _listens(front)
                for _, data in PAYLOADS:
                    async with client(front) as one:
                        one.send(data)
                        await one.ended()
                assert (await ask(front, request("POST", "/good", b"hello"))).status == 200
            finally:
                process.terminate()
                await process.wait()
            return running.seen

    seen = run(play())
    assert seen[-1].path == "/good"
    # nginx answers once per connection here, so an inner request could only come out of the bytes of an outer one.
    assert [each for each in seen if each.path == "/inner" or each.body not in (b"", b"hello")] == []


async def _listens(port: int) -> None:
    for _ in range(500):
        try:
            async with client(port):
                return
        except OSError:
            continue
    raise TimeoutError("nginx does not listen")
