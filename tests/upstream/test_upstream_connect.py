import asyncio
import socket

import pytest

from mana_llm.schema.errors import ProviderConnectError, ProviderTimeoutError
from mana_llm.schema.wire import Call, Endpoint, Limits, Origin
from mana_llm.upstream.client import Upstream
from mana_llm.upstream.connect import open_socket, resolve
from tests.upstream.peer import LIMITS, OK, active, fetch, serving, turns


def deaf_address():
    """A listening socket whose queue is full: connecting to it neither succeeds nor fails."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    return listener, fillers


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def fixed(*addresses):
    async def resolve(host, port):
        return list(addresses)

    return resolve


def named(port):
    return Call(Endpoint(Origin("http", "api.test", port), "POST", "/"), b"{}")


def test_connection_is_refused_when_nothing_listens(run):
    """The error of a closed port says so and what to look at."""

    async def main():
        upstream = Upstream()
        call = Call(Endpoint(Origin("http", "127.0.0.1", free_port()), "GET", "/"))
        with pytest.raises(ProviderConnectError, match="Is it running"):
            await upstream.send(call, LIMITS)
        assert active(upstream) == 0

    run(main)


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), OSError(101, "Network is unreachable")])
def test_connection_fails_when_the_name_does_not_resolve(run, error):
    """A name that is not found is a connect error."""

    async def main():
        async def failing(host, port):
            raise error

        upstream = Upstream(resolve=failing)
        with pytest.raises(ProviderConnectError, match=r"api\.test") as caught:
            await upstream.send(named(1), LIMITS)
        assert caught.value.__cause__ is error
        assert active(upstream) == 0

    run(main)


def test_name_is_not_found_when_it_cannot_be_one(run):
    """A host that DNS cannot spell is an unknown name, not a crash."""

    async def main():
        with pytest.raises(socket.gaierror):
            await resolve("a" * 70 + ".test", 1)

    run(main)


def test_families_are_alternated_when_a_name_has_both(run, monkeypatch):
    """At most four addresses, the resolver's first first, then the other family (RFC 8305)."""

    async def main():
        six, four, kind = socket.AF_INET6, socket.AF_INET, socket.SOCK_STREAM
        found = [(six, kind, 6, "", (f"::{n}", 1, 0, 0)) for n in range(3)]
        found += [(four, kind, 6, "", (f"10.0.0.{n}", 1)) for n in range(3)]

        class Loop:
            async def getaddrinfo(self, *_, **__):
                return found

        monkeypatch.setattr("mana_llm.upstream.connect.asyncio.get_running_loop", Loop)
        addresses = await resolve("api.test", 1)
        monkeypatch.undo()
        assert [family for family, _ in addresses] == [six, four, six, four]

    run(main)


def test_literal_address_needs_no_resolver_when_given(run):
    """An address is its own resolution, in both families."""

    async def main():
        assert await resolve("::1", 5) == [(socket.AF_INET6, ("::1", 5))]
        assert await resolve("127.0.0.1", 5) == [(socket.AF_INET, ("127.0.0.1", 5))]

    run(main)


def test_ipv6_peer_is_called_when_it_is_a_literal(run):
    """An IPv6 origin works and its Host header has brackets."""

    async def main():
        async with serving(OK, host="::1") as peer:
            upstream = Upstream()
            assert (await fetch(upstream, peer.call()))[1] == b"ok"
            assert b"Host: [::1]:%d\r\n" % peer.port in peer.requests[0]
            await upstream.close()

    run(main)


def test_second_address_serves_when_the_first_is_silent(run, monkeypatch):
    """A silent address costs the stagger, not the call, and its socket is closed."""

    async def main():
        monkeypatch.setattr("mana_llm.upstream.connect._STAGGER_S", 0.01)
        listener, fillers = deaf_address()
        async with serving(OK, host="::1") as peer:
            silent = socket.AF_INET, listener.getsockname()
            upstream = Upstream(resolve=fixed(silent, (socket.AF_INET6, ("::1", peer.port))))
            response, body = await fetch(upstream, named(peer.port))
            assert body == b"ok"
            assert response.connect_s >= 0.009
            await turns()
            assert len(asyncio.all_tasks()) == 1
            await upstream.close()
        for each in (listener, *fillers):
            each.close()

    run(main)


def test_second_address_serves_at_once_when_the_first_refuses(run):
    """A refusal does not wait for the stagger."""

    async def main():
        async with serving(OK) as peer:
            refusing = socket.AF_INET, ("127.0.0.1", free_port())
            upstream = Upstream(resolve=fixed(refusing, (socket.AF_INET, ("127.0.0.1", peer.port))))
            response, body = await fetch(upstream, named(peer.port))
            assert body == b"ok"
            assert response.connect_s < 0.2
            await upstream.close()

    run(main)


def test_connection_fails_when_every_address_refuses(run):
    """Where nobody answers, the first one's problem is told."""

    async def main():
        refusing = [(socket.AF_INET, ("127.0.0.1", free_port())) for _ in range(3)]
        with pytest.raises(ConnectionRefusedError):
            await open_socket(refusing)
        with pytest.raises(OSError, match="no address"):
            await open_socket([])

    run(main)


def test_connect_limit_covers_all_when_every_address_is_silent(run, monkeypatch):
    """One deadline spans every attempt, and its error names it."""

    async def main():
        monkeypatch.setattr("mana_llm.upstream.connect._STAGGER_S", 0.01)
        listener, fillers = deaf_address()
        silent = socket.AF_INET, listener.getsockname()
        upstream = Upstream(resolve=fixed(silent, silent))
        with pytest.raises(ProviderTimeoutError, match=r"No connection .* within 0\.05 s") as caught:
            await upstream.send(named(1), Limits(0.05, None, 9, 9))
        assert not caught.value.reached
        assert active(upstream) == 0
        await turns()
        assert len(asyncio.all_tasks()) == 1
        for each in (listener, *fillers):
            each.close()

    run(main)


def test_socket_options_are_set_when_connected(run):
    """Nagle is off and keep-alive is on."""

    async def main():
        async with serving(OK) as peer:
            opened = await open_socket([(socket.AF_INET, ("127.0.0.1", peer.port))])
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            opened.close()

    run(main)


def test_connect_seconds_are_told_when_the_connection_is_new(run):
    """`connect_s` is more than nothing on a new connection and nothing on a used one."""

    async def main():
        async with serving(OK) as peer:
            upstream = Upstream()
            # However coarse the clock is: this one stands still.
            upstream.now_s = lambda: 5.0
            seconds = [(await fetch(upstream, peer.call()))[0].connect_s for _ in range(2)]
            assert seconds[0] > 0.0
            assert seconds[1] == 0.0
            await upstream.close()

    run(main)
