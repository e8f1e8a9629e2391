"""What the guard lets through, and how it writes what it let through."""

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.schema.errors import RequestError
from mana_llm.upstream.guard import LOOKUPS_MAX, URL_CHARACTERS_MAX, Guard, is_allowed
from tests.upstream.watched import PUBLIC, PUBLIC6, Watch, run_watched

HOME = ("10.0.0.1", "127.0.0.1", "192.168.1.20", "172.16.0.1", "100.64.0.7", "::1", "fd12:3456::1")
NEVER = (
    "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "192.0.0.192", "100.100.100.200", "168.63.129.16",
    "::", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::1",
    "2001::1", "2002:808:808::1", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1", "fd00:ec2::254", "2001:db8::1",
    "100::1",
)  # fmt: skip
WORLD = ("8.8.8.8", PUBLIC, "1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", PUBLIC6, "2a00:1450:4001:80b::200e")
# Whole networks of which not one address is the world's. Source: IANA's special-purpose registries.
INSIDE = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "::/8", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
    "2002::/16", "3fff::/20", "4000::/2", "8000::/1",
)  # fmt: skip


@pytest.mark.parametrize("private", [False, True])
def test_address_is_judged_when_it_is_known(private):
    """The world's addresses always, those of a home only where that is allowed, and some never."""
    assert all(is_allowed(address, private=private) for address in WORLD)
    assert not any(is_allowed(address, private=private) for address in NEVER)
    assert {is_allowed(address, private=private) for address in HOME} == {private}


@given(st.data(), st.sampled_from(INSIDE))
def test_address_is_refused_when_its_network_is_not_the_worlds(data, text):
    """Not one address of the special networks is allowed."""
    network = ipaddress.ip_network(text)
    address = network[data.draw(st.integers(0, network.num_addresses - 1))]
    assert not is_allowed(str(address), private=False)


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        ("https://a.test", "https://a.test", "/"),
        ("HTTPS://A.Test/Path?Q=1", "https://a.test", "/Path?Q=1"),
        ("https://a.test:443/x", "https://a.test", "/x"),
        ("https://a.test?x=/y", "https://a.test", "/?x=/y"),
        ("https://a.test/x#part", "https://a.test", "/x"),
        ("https://a.test#part", "https://a.test", "/"),
        ("https://a.test./x", "https://a.test", "/x"),
        ("https://a_b.c-d.test/x", "https://a_b.c-d.test", "/x"),
        ("https://a.test/%7Eb?c=%2F&d=@e:f;g", "https://a.test", "/%7Eb?c=%2F&d=@e:f;g"),
        ("https://a.test/\u00fc/\u65e5?\U0001f600", "https://a.test", "/%C3%BC/%E6%97%A5?%F0%9F%98%80"),
        ("https://a.test/\ud800", "https://a.test", "/?"),
        ("https://b\u00fccher.test/", "https://xn--bcher-kva.test", "/"),
        ("https://xn--bcher-kva.test/", "https://xn--bcher-kva.test", "/"),
        ("https://8.8.8.8/x", "https://8.8.8.8", "/x"),
        ("https://[2606:4700:0:0::1111]/x", "https://[2606:4700::1111]", "/x"),
        ("https://a.test//x", "https://a.test", "//x"),
        ("https://a.test/x'y\"z<>|`{}^", "https://a.test", "/x'y\"z<>|`{}^"),
    ],
)
def test_endpoint_is_what_the_url_says_when_it_is_good(url, origin, target):
    """The origin in its one spelling; path and query as they came, what is not ASCII percent-encoded."""
    endpoint = Guard(private=False).endpoint(url)
    assert (str(endpoint.origin), endpoint.target, endpoint.method) == (origin, target, "GET")
    assert b"Authorization" not in endpoint.headers


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://a.test/", "only https on port 443"),
        ("https://a.test:8443/", "only https on port 443"),
        ("https://me:secret@a.test/", "a user in the URL"),
        ("https://127.1/", "not spelt"),
        ("https://xn--a.test:x/", "cannot be read"),
        ("https://a.test/" + "x" * URL_CHARACTERS_MAX, "more than 8192 characters"),
    ],
)
def test_url_is_refused_with_its_reason_when_it_is_bad(url, words):
    """The message says what is wrong and what to do, and repeats nothing of the URL."""
    with pytest.raises(RequestError, match=words) as caught:
        Guard(private=False).endpoint(url)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, "messages", "invalid_image_url")
    assert "data: URI" in caught.value.message
    assert "test" not in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://nas.home/x", "http://nas.home"),
        ("http://nas.home:8080/x", "http://nas.home:8080"),
        ("https://192.168.1.20:5001/x", "https://192.168.1.20:5001"),
    ],
)
def test_http_and_ports_are_allowed_when_fetching_is_private(url, origin):
    """At home, http and every port will do; everything else is judged as before."""
    home = Guard(private=True)
    assert str(home.endpoint(url).origin) == origin
    for bad in (
        "http://a@nas.home/",
        "http://127.1/",
        "ftp://nas.home/",
        "http://nas.home:0/",
        "http://nas.home:65536/",
    ):
        with pytest.raises(RequestError):
            home.endpoint(bad)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_addresses_are_handed_on_when_every_one_is_public(kind):
    """One look-up, every address judged, the first four handed on, families alternated."""
    four = [(PUBLIC, PUBLIC6, "1.1.1.1", "8.8.8.8", "9.9.9.9")]

    async def main(watch):
        found = await Guard(private=False).resolve("a.test", 443)
        assert [peer[0] for _, peer in found] == [PUBLIC, PUBLIC6, "1.1.1.1", "8.8.8.8"]
        assert {family for family, _ in found} == {socket.AF_INET, socket.AF_INET6}
        assert watch.looked_up == ["a.test"]

    run_watched(kind, main, Watch({"a.test": four}))


def test_refusal_is_the_same_when_a_name_is_unknown_and_when_it_is_inside():
    """Whoever sends URLs does not learn which names this network has."""

    async def main(_):
        told = set()
        for name in ("unknown.test", "inside.test", "mixed.test", "none.test"):
            with pytest.raises(RequestError) as caught:
                await Guard(private=False).resolve(name, 443)
            told.add(caught.value.message)
        assert len(told) == 1

    names = {"inside.test": [("10.0.0.1",)], "mixed.test": [(PUBLIC, "10.0.0.1")], "none.test": [()]}
    run_watched("asyncio", main, Watch(names))


def test_lookups_are_few_when_names_are_never_answered():
    """A look-up that nobody waits for keeps its place until it is over; then the next one goes."""

    async def main():
        asked, answers = [], []

        async def slow(host, _, **__):
            asked.append(host)
            answers.append(asyncio.get_running_loop().create_future())
            return await answers[-1]

        asyncio.get_running_loop().getaddrinfo = slow
        guard = Guard(private=False)
        waiting = [asyncio.ensure_future(guard.resolve(f"{name}.test", 443)) for name in "abcd"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in waiting[:3]:
            task.cancel()
        await asyncio.wait(waiting[:3])
        assert asked == ["a.test", "b.test"]
        assert len(asked) == LOOKUPS_MAX
        answers[0].set_result([(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 443))])
        while len(asked) < 3:  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0)
        assert asked[2] == "d.test"
        answers[2].set_result([(socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 443))])
        assert await waiting[3] == [(socket.AF_INET, (PUBLIC, 443))]
        answers[1].set_exception(socket.gaierror(-2, "unknown"))

    asyncio.run(main())
