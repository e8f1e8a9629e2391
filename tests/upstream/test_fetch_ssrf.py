"""What a fetch touches, whatever URL it is given: seen at the loop, beneath everything that could be mistaken."""

import asyncio
import ssl

import pytest

from mana_llm.schema.errors import RequestError
from mana_llm.upstream import connect, fetch, guard
from mana_llm.upstream.fetch import FetchLimits, ImageFetcher
from mana_llm.upstream.guard import Guard
from tests.upstream.peer import serving
from tests.upstream.ssrf import CORPUS, NAMES, OUTSIDE, says
from tests.upstream.watched import PUBLIC, Watch, run_watched

trustme = pytest.importorskip("trustme")

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
IMAGE = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n%b" % (len(PNG), PNG)
PUBLIC_NAMES = [name for name, answers in NAMES.items() if PUBLIC in answers[0]]


@pytest.fixture(scope="module")
def contexts():
    """TLS of the public server, whose certificate is for every name that is public at first, and of who asks it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(*PUBLIC_NAMES).configure_cert(server)
    authority.configure_trust(client)
    return server, client


def answer(connection, request):
    connection.write(says(request.split(b" ", 2)[1].decode()) or IMAGE)


async def tried(urls, watch, contexts):
    """Fetch each URL by itself: those that gave an image, and those that touched what is inside."""
    served, touched, refusals = set(), set(), []
    async with serving(answer, ssl=contexts[0]) as peer:
        watch.port = peer.port
        fetcher = ImageFetcher(FetchLimits(1000, 5.0), Guard(private=False), contexts[1])
        for url in urls:
            watch.dialled.clear()
            watch.looked_up.clear()
            try:
                if await fetcher.fetch([url], 60.0):
                    served.add(url)
            except RequestError as error:
                refusals.append(error)
            if watch.inside:
                touched.add(url)
    assert {(error.status, error.param, error.code) for error in refusals} == {(400, "messages", "invalid_image_url")}
    assert all("data: URI" in error.message for error in refusals)
    assert len(served) + len(refusals) == len(urls)
    return served, touched


@pytest.fixture(params=["asyncio", "uvloop"])
def try_corpus(request, contexts):
    """Fetch the whole corpus on either loop."""

    def run():
        return run_watched(request.param, lambda watch: tried(CORPUS, watch, contexts), Watch(NAMES))

    return run


def test_nothing_inside_is_touched_when_urls_are_hostile(try_corpus):
    """R56 (305 of 120): hostile URLs, names that rebind and redirects inside: no socket opens to what is not public."""
    assert len(set(CORPUS)) == len(CORPUS) == 305
    served, touched = try_corpus()
    assert not touched
    assert served == OUTSIDE


def test_corpus_notices_when_addresses_are_not_judged(try_corpus, monkeypatch):
    """With the judge of addresses gone, the corpus opens sockets inside: it has teeth."""
    monkeypatch.setattr(guard, "is_allowed", lambda *_, **__: True)
    assert len(try_corpus()[1]) > 100


def test_corpus_notices_when_a_name_is_looked_up_twice(try_corpus, monkeypatch):
    """With the checked addresses dropped for a second look-up, names that rebind get in."""
    checked = Guard.resolve

    async def forgetful(self, host, port):
        await checked(self, host, port)
        return await connect.resolve(host, port)

    monkeypatch.setattr(Guard, "resolve", forgetful)
    assert {url for url in try_corpus()[1] if "rebind" in url} == {url for url in OUTSIDE if "rebind" in url}


def test_corpus_notices_when_one_good_address_is_enough(try_corpus, monkeypatch):
    """With any address judged instead of every one, a name with both kinds gets in once the good one fails."""
    monkeypatch.setattr(guard, "all", any, raising=False)
    watched = {"https://mixed.test/a.png", "https://mixed6.test/a.png", "https://last.test/a.png"}
    assert try_corpus()[0] & watched


def test_corpus_notices_when_redirects_are_followed(try_corpus, monkeypatch):
    """With a reader that follows where it is sent, unguarded as followers are, metadata is asked for."""
    get = fetch._get

    async def following(upstream, endpoint, bytes_max):
        try:
            return await get(upstream, endpoint, bytes_max)
        except RequestError as error:
            if "redirects" in error.message:
                await connect.open_socket(await connect.resolve("169.254.169.254", 80))
            raise

    monkeypatch.setattr(fetch, "_get", following)
    with pytest.raises(ConnectionRefusedError):
        try_corpus()


def test_lookup_keeps_its_place_when_nobody_waits_any_more():
    """Names that are never answered take two threads and no more: the third is not looked up, and all end in time."""

    async def main():
        loop, asked = asyncio.get_running_loop(), []

        async def silent(host, port, **_):
            asked.append(host)
            await asyncio.Event().wait()

        loop.getaddrinfo = silent
        judge = Guard(private=False)
        fetcher = ImageFetcher(FetchLimits(1000, 0.02), judge)
        for name in "abcd":
            with pytest.raises(RequestError, match=r"within 0\.02 s"):
                await fetcher.fetch([f"https://{name}.test/"], 60.0)
        assert asked == ["a.test", "b.test"]

    asyncio.run(main())
