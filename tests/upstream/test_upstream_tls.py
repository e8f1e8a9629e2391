import asyncio
import os
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from mana_llm.schema.errors import ProviderConnectError
from mana_llm.schema.wire import Call, Endpoint, Origin
from mana_llm.upstream.client import Upstream
from mana_llm.upstream.proxy import Proxies, Proxy
from mana_llm.upstream.tls import Tls
from tests.upstream.peer import LIMITS, OK, active, fetch, idle, serving

trustme = pytest.importorskip("trustme")


@pytest.fixture(scope="module")
def authority():
    """A certificate authority of our own."""
    return trustme.CA()


def server_context(authority, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(*names).configure_cert(context)
    return context


def client_context(authority):
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    authority.configure_trust(context)
    return context


async def at_loopback(host, port):
    import socket

    return [(socket.AF_INET, ("127.0.0.1", port))]


def call_to(peer, name):
    return Call(Endpoint(Origin("https", name, peer.port), "POST", "/v1/x"), b"{}")


def test_answer_comes_over_tls_when_the_certificate_is_trusted(run, authority):
    """TLS asks for HTTP/1.1, names the host (SNI), serves large bodies, and its connection is kept."""

    async def main():
        context, asked = server_context(authority, "api.test"), []
        context.sni_callback = lambda _socket, name, _context: asked.append(name)
        async with serving(OK, ssl=context) as peer:
            upstream = Upstream(ssl_context=client_context(authority), resolve=at_loopback)
            for body in (b"{}", b"x" * 2_000_000):
                call = Call(call_to(peer, "api.test").endpoint, body)
                assert (await fetch(upstream, call))[1] == b"ok"
            assert asked == ["api.test"]
            chosen = peer.connections[0].transport.get_extra_info("ssl_object").selected_alpn_protocol()
            assert chosen == "http/1.1"
            assert (len(peer.connections), idle(upstream)) == (1, 1)
            await upstream.close()

    run(main)


def test_certificate_is_refused_when_it_is_not_trusted(run, authority):
    """An unknown authority is a connect error that names SSL_CERT_FILE."""

    async def main():
        async with serving(OK, ssl=server_context(authority, "api.test")) as peer:
            upstream = Upstream(resolve=at_loopback)
            with pytest.raises(ProviderConnectError, match="SSL_CERT_FILE"):
                await fetch(upstream, call_to(peer, "api.test"))
            assert active(upstream) == 0

    run(main)


def test_certificate_is_refused_when_it_is_for_another_host(run, authority):
    """The host's name is checked."""

    async def main():
        async with serving(OK, ssl=server_context(authority, "other.test")) as peer:
            upstream = Upstream(ssl_context=client_context(authority), resolve=at_loopback)
            with pytest.raises(ProviderConnectError, match="not trusted"):
                await fetch(upstream, call_to(peer, "api.test"))
            assert active(upstream) == 0

    run(main)


def test_tls_fails_by_name_when_the_port_speaks_plain_http(run):
    """A plain port asked for TLS is a connect error that says what to check."""

    async def main():
        def plain(connection):
            connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with serving(OK, on_connect=plain) as peer:
            upstream = Upstream(resolve=at_loopback)
            with pytest.raises(ProviderConnectError, match="Does that port speak https"):
                await fetch(upstream, call_to(peer, "api.test"))

    run(main)


def test_cert_file_is_honoured_when_the_environment_names_one(authority, tmp_path):
    """SSL_CERT_FILE adds an authority without a word of configuration."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    code = "from mana_llm.upstream.tls import Tls; print(len(Tls().context.get_ca_certs()))"
    environ = {**os.environ, "SSL_CERT_FILE": str(path), "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True)
    assert int(made.stdout) >= 1


def test_context_is_made_when_first_asked_for(monkeypatch):
    """Start-up does not read certificates; the second connection does not read them again."""
    made = []
    create = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: made.append(1) or create())
    tls = Tls()
    assert not made
    assert tls.context is tls.context
    assert made == [1]
    assert tls.context.verify_mode is ssl.CERT_REQUIRED
    assert tls.context.check_hostname


@asynccontextmanager
async def proxying(reply=b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n", port=None):
    """A proxy that answers CONNECT with `reply` and, if `port` is given, then carries bytes to it."""
    requests = []

    async def carry(reader, writer):
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader, writer):
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        if port is not None:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
        elif not reply:
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Proxy("127.0.0.1", server.sockets[0].getsockname()[1], b"Proxy-Authorization: Basic eDp5\r\n"), requests
    finally:
        server.close()


def test_call_goes_through_a_tunnel_when_https_has_a_proxy(run, authority):
    """CONNECT names the host and port, carries the proxy's authorization and nothing of ours; TLS runs within."""

    async def main():
        async with (
            serving(OK, ssl=server_context(authority, "api.test")) as peer,
            proxying(port=peer.port) as (
                proxy,
                requests,
            ),
        ):
            upstream = Upstream(Proxies(https=proxy), client_context(authority))
            call = call_to(peer, "api.test")
            for _ in range(2):
                assert (await fetch(upstream, call))[1] == b"ok"
            assert requests == [
                b"CONNECT api.test:%d HTTP/1.1\r\nHost: api.test:%d\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
                % (peer.port, peer.port)
            ]
            assert peer.requests[0].startswith(b"POST /v1/x HTTP/1.1\r\n")
            assert b"Proxy" not in peer.requests[0]
            await upstream.close()

    run(main)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 407 Auth\r\nContent-Length: 3\r\n\r\nno!", "user and password"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "answered 403"),
        (b"SSH-2.0\r\n", "did not speak HTTP"),
        (b"", "closed"),
        (b"X" * 70_000, "did not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTPS_PROXY|TLS|connection"),
    ],
)
def test_tunnel_is_a_connect_error_when_the_proxy_refuses(run, authority, reply, words):
    """Whatever a proxy says but yes is told as its refusal; bytes before TLS are not trusted."""

    async def main():
        async with proxying(reply) as (proxy, _):
            upstream = Upstream(Proxies(https=proxy), client_context(authority))
            call = Call(Endpoint(Origin("https", "api.test", 443), "POST", "/"), b"{}")
            with pytest.raises(ProviderConnectError, match=words) as caught:
                await upstream.send(call, LIMITS)
            assert "eDp5" not in str(caught.value)
            assert active(upstream) == 0

    run(main)


def test_request_takes_absolute_form_when_http_has_a_proxy(run):
    """A plain call through a proxy names its whole target and authorizes itself there."""

    async def main():
        async with serving(OK) as peer:
            proxy = Proxy("127.0.0.1", peer.port, b"Proxy-Authorization: Basic eDp5\r\n")
            upstream = Upstream(Proxies(http=proxy))
            call = Call(Endpoint(Origin("http", "ollama.test", 11434), "POST", "/api/chat"), b"{}")
            assert (await fetch(upstream, call))[1] == b"ok"
            assert peer.requests[0].startswith(
                b"POST http://ollama.test:11434/api/chat HTTP/1.1\r\nHost: ollama.test:11434\r\n"
            )
            assert b"\r\nProxy-Authorization: Basic eDp5\r\n" in peer.requests[0]
            await upstream.close()

    run(main)
