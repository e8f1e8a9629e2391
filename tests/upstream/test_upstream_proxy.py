import pytest

from mana_llm.schema.wire import Origin
from mana_llm.upstream.proxy import Proxies, Proxy, proxies_from

PROXY = Proxy("proxy.test", 3128)


@pytest.mark.parametrize(
    ("environ", "http", "https"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://proxy.test:3128"}, None, PROXY),
        ({"https_proxy": "proxy.test:3128", "HTTPS_PROXY": "http://other.test:1"}, None, PROXY),
        ({"HTTP_PROXY": "http://proxy.test:3128/"}, PROXY, None),
        ({"HTTP_PROXY": "http://proxy.test:3128", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "http://proxy.test:3128", "REQUEST_METHOD": "GET"}, PROXY, None),
        ({"ALL_PROXY": "http://proxy.test:3128"}, PROXY, PROXY),
        ({"all_proxy": "http://proxy.test:3128", "https_proxy": ""}, PROXY, None),
        ({"HTTPS_PROXY": "http://proxy.test"}, None, Proxy("proxy.test", 80)),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, None, Proxy("::1", 3128)),
    ],
)
def test_proxies_are_read_from_the_environment(environ, http, https):
    """Each scheme finds its variable; lower case wins, empty means none, CGI's HTTP_PROXY is ignored."""
    proxies = proxies_from(environ)
    assert (proxies.http, proxies.https) == (http, https)


def test_authorization_is_made_when_the_proxy_has_a_user():
    """User and password become Basic credentials, percent-decoded, and print nowhere."""
    proxies = proxies_from({"HTTPS_PROXY": "http://us%40er:pa%3Ass@proxy.test:1"})
    assert proxies.https is not None
    assert proxies.https.authorization == b"Proxy-Authorization: Basic dXNAZXI6cGE6c3M=\r\n"
    assert "dXN" not in f"{proxies!r} {proxies.https}"
    assert repr(proxies.https) == "<Proxy http://proxy.test:1>"


@pytest.mark.parametrize("value", ["socks5://user:SECRET@h:1", "https://h:1", "http://", "http://h:port", "http://é:1"])
def test_proxy_is_refused_by_name_when_it_cannot_be_used(value):
    """A proxy that we cannot speak to stops the start, naming the variable and not the value."""
    with pytest.raises(ValueError, match="HTTPS_PROXY") as caught:
        proxies_from({"HTTPS_PROXY": value})
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "host", "covered"),
    [
        ("*", "api.test", True),
        ("api.test", "api.test", True),
        ("test", "api.test", True),
        (".test", "api.test", True),
        ("*.test", "api.test", True),
        (".api.test", "api.test", True),
        ("pi.test", "api.test", False),
        ("a.test, API.test.", "Api.Test", True),
        ("a.test b.test", "b.test", True),
        ("api.test", "api.test.", True),
        ("api.test:8080", "api.test", True),
        ("api.test:81", "api.test", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "api.test", False),
        ("bad/8", "10.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:81", "10.1.2.3", False),
        ("2.3", "10.1.2.3", False),
        ("[fd00::1]:8080", "fd00::1", True),
        ("[fd00::1]:81", "fd00::1", False),
        ("fd00:0::1", "fd00::1", True),
        ("fd00::/8", "fd00::1", True),
        ("", "api.test", False),
        (".", "api.test", False),
    ],
)
def test_no_proxy_decides_when_it_covers_the_host(rules, host, covered):
    """NO_PROXY knows names and what is below them, ports, addresses, networks and `*`."""
    proxies = proxies_from({"ALL_PROXY": "http://proxy.test:3128", "no_proxy": rules})
    expected = None if covered else PROXY
    assert proxies.proxy_for(Origin("http", host, 8080)) == expected
    assert proxies.proxy_for(Origin("https", host, 8080)) == expected


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_never_proxied(host):
    """An Ollama on localhost is reached directly, whatever the environment says."""
    assert Proxies(http=PROXY, https=PROXY).proxy_for(Origin("http", host, 11434)) is None
