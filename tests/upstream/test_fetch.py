"""How images are fetched: what the host sees, what is bounded, and what the client is told."""

import asyncio
import dataclasses
import ssl
import zlib
from contextlib import asynccontextmanager

import pytest

from mana_llm.compose import parts
from mana_llm.schema.chat import Fetched
from mana_llm.schema.errors import ProviderTimeoutError, RequestError
from mana_llm.settings import Settings
from mana_llm.upstream.fetch import IMAGES_MAX, REQUESTS_MAX, FetchLimits, ImageFetcher
from mana_llm.upstream.guard import Guard
from tests.upstream.peer import nothing, serving, until
from tests.upstream.watched import PUBLIC, Watch, run_watched

trustme = pytest.importorskip("trustme")

PNG = b"\x89PNG\r\n\x1a\n" + bytes(92)
NAMES = {"images.test": [(PUBLIC,)]}
LIMITS = FetchLimits(1000, 5.0)
URL = "https://images.test/a.png?token=s3cret"


def reply(body=PNG, head=b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"):
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


@pytest.fixture(scope="module")
def contexts():
    """TLS of images.test, and of who asks it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("images.test").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@asynccontextmanager
async def fetching(watch, contexts, answer, limits=LIMITS):
    """A public server that answers so, and a fetcher that is closed to everything else."""
    async with serving(answer, ssl=contexts[0]) as peer:
        watch.port = peer.port
        yield peer, ImageFetcher(limits, Guard(private=False), contexts[1])


def run(main, contexts, kind="asyncio"):
    run_watched(kind, lambda watch: main(watch, contexts), Watch(NAMES))


async def refusal(fetcher, *urls, left_s=60.0):
    """What a client is told of a fetch that fails."""
    with pytest.raises(RequestError) as caught:
        await fetcher.fetch(urls, left_s)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, "messages", "invalid_image_url")
    assert error.message.endswith("Send the image as a data: URI instead.")
    assert "s3cret" not in error.message
    return error.message


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_image_is_fetched_when_its_host_is_public(contexts, kind):
    """One GET without a key or a cookie, the type by the first bytes, one connection that is closed afterwards."""

    async def main(watch, contexts):
        async with fetching(watch, contexts, reply()) as (peer, fetcher):
            assert await fetcher.fetch([URL], 60.0) == {URL: Fetched("image/png", PNG)}
            (request,) = peer.requests
            assert request == (
                b"GET /a.png?token=s3cret HTTP/1.1\r\nHost: images.test\r\nAccept-Encoding: identity\r\n"
                b"User-Agent: mana-llm\r\nAccept: image/*\r\n\r\n"
            )
            await asyncio.wait_for(peer.connections[0].gone, 5)
            assert (watch.dialled, watch.looked_up) == ([PUBLIC], ["images.test"])

    run(main, contexts, kind)


def test_images_come_one_after_the_other_when_there_are_several(contexts):
    """Each URL has its image, each over a connection of its own."""

    async def main(watch, contexts):
        urls = [f"https://images.test/{number}" for number in range(IMAGES_MAX)]
        async with fetching(watch, contexts, reply(), FetchLimits(100 * IMAGES_MAX, 5.0)) as (peer, fetcher):
            assert list(await fetcher.fetch(urls, 60.0)) == urls
            assert len(peer.connections) == IMAGES_MAX
            assert "at most 16" in await refusal(fetcher, *urls, "https://images.test/one-too-many")
            assert len(peer.connections) == IMAGES_MAX

    run(main, contexts)


def test_nothing_is_fetched_when_one_url_is_bad(contexts):
    """Every URL is read before the first is asked for."""

    async def main(watch, contexts):
        async with fetching(watch, contexts, reply()) as (peer, fetcher):
            await refusal(fetcher, URL, "file:///etc/passwd")
            assert not peer.connections

    run(main, contexts)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(b"<html>"), "sent is no image"),
        (reply(b""), "sent is no image"),
        (reply(head=b"HTTP/1.1 404 Not Found\r\n"), "answered 404"),
        (reply(head=b"HTTP/1.1 206 Partial Content\r\n"), "answered 206"),
        (reply(head=b"HTTP/1.1 302 Found\r\nLocation: /b.png\r\n"), r"redirects \(302\), which is not followed"),
        (reply(PNG * 11), "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"64\r\n%b\r\n" % PNG * 11, "more than 1000 bytes"),
        (
            reply(zlib.compress(PNG + bytes(10**6)), b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n"),
            "more than 1000 bytes",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Length: 7\r\n\r\n", "images.test"),
        (b"SSH-2.0-OpenSSH\r\n", "images.test"),
        (lambda connection, _: connection.abort(), "closed the connection"),
    ],
)
def test_client_is_told_when_what_comes_is_no_image(contexts, answer, words):
    """A 400 that names the host and what it did, but not the path, which may hold a key."""

    async def main(watch, contexts):
        async with fetching(watch, contexts, answer) as (_, fetcher):
            message = await refusal(fetcher, URL)
            with pytest.raises(AssertionError, match=words):
                raise AssertionError(message)

    run(main, contexts)


def test_certificate_is_checked_when_an_image_is_fetched(contexts):
    """Whoever answers in the host's place is not believed."""

    async def main(watch, contexts):
        async with fetching(watch, (contexts[0], None), reply()) as (peer, fetcher):
            assert "is not trusted" in await refusal(fetcher, URL)
            assert not peer.requests

    run(main, contexts)


def test_bytes_are_shared_when_a_request_has_several_images(contexts):
    """What the first image took is not there for the second."""

    async def main(watch, contexts):
        async with fetching(watch, contexts, reply(), FetchLimits(150, 5.0)) as (_, fetcher):
            assert await fetcher.fetch([URL], 60.0)
            assert "more than 50 bytes" in await refusal(fetcher, URL, "https://images.test/b")

    run(main, contexts)


@pytest.mark.parametrize(
    "answer", [nothing, lambda connection, _: connection.write(reply()[:50])], ids=["silence", "half an image"]
)
def test_fetch_ends_in_time_when_the_host_is_slow(contexts, answer):
    """The fetcher's own time is the client's 400; the walk's is a time-out that no provider's health hears of."""

    async def main(watch, contexts):
        async with fetching(watch, contexts, answer, FetchLimits(1000, 0.1)) as (peer, fetcher):
            assert "within 0.1 s" in await refusal(fetcher, URL)
            with pytest.raises(ProviderTimeoutError) as caught:
                await fetcher.fetch([URL], 0.05)
            assert caught.value.health == "none"
            for connection in peer.connections:
                await asyncio.wait_for(connection.gone, 5)

    run(main, contexts)


def test_fetch_waits_its_turn_when_many_are_under_way(contexts):
    """No more than so many requests fetch at once; the next one goes when one of them is over."""

    async def main(watch, contexts):
        asked = []
        async with fetching(watch, contexts, lambda connection, _: asked.append(connection)) as (_, fetcher):
            fetches = [asyncio.ensure_future(fetcher.fetch([URL], 60.0)) for _ in range(REQUESTS_MAX + 1)]
            await until(lambda: len(asked) == REQUESTS_MAX)
            assert watch.dialled == [PUBLIC] * REQUESTS_MAX
            asked[0].write(reply())
            await until(lambda: len(asked) == REQUESTS_MAX + 1)
            for connection in asked[1:]:
                connection.write(reply())
            assert len(await asyncio.gather(*fetches)) == REQUESTS_MAX + 1

    run(main, contexts)


def test_connection_is_cut_when_the_client_leaves(contexts):
    """A fetch that is cancelled leaves nothing open and gives its turn back."""

    async def main(watch, contexts):
        async with fetching(watch, contexts, nothing) as (peer, fetcher):
            fetch = asyncio.ensure_future(fetcher.fetch([URL], 60.0))
            await until(lambda: peer.requests)
            fetch.cancel()
            await asyncio.wait([fetch])
            assert fetch.cancelled()
            await asyncio.wait_for(peer.connections[0].gone, 5)
            assert fetcher._slots._value == REQUESTS_MAX

    run(main, contexts)


def test_nothing_is_fetched_when_no_bytes_are_allowed(contexts):
    """0 bytes is the switch that turns fetching off."""

    async def main(watch, contexts):
        async with fetching(watch, contexts, reply(), FetchLimits(0, 5.0)) as (_, fetcher):
            assert "this gateway fetches none" in await refusal(fetcher, URL)
            assert not watch.looked_up

    run(main, contexts)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_fetch_goes_straight_out_when_a_proxy_is_set(contexts, scheme):
    """A proxy would look the name up by itself: calls to providers take it, fetches never do."""

    async def main(watch, contexts):
        proxies = tuple((name, "http://10.0.0.9:3128") for name in ("HTTP_PROXY", "HTTPS_PROXY"))
        settings = dataclasses.replace(Settings(), proxies=proxies, fetch_private=True)
        await refusal(parts.fetcher(settings), f"{scheme}://images.test/")
        assert watch.dialled == [PUBLIC]

    run(main, contexts)
