"""What every client gets beside its answer: errors in one shape, paths that forgive, ids, CORS."""

import asyncio
import logging

import pytest

from mana_llm.compose import make_gateway
from mana_llm.edge.app import Endpoint, Gateway, Services
from mana_llm.edge.auth import Authenticator
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.kit.ids import Ids
from mana_llm.observe.clock import SystemClock
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.settings import Settings, SettingsError
from tests.caller import counted
from tests.edge.wire import CHAT, KEYS, ask, chat, chat_body, client, edge, request, run
from tests.logged import logged
from tests.world import gateway

BEARER = "Authorization: Bearer secret"
REFUSALS = [
    (400, "invalid_json", chat(BEARER, body=b"{")),
    (400, "missing", chat(BEARER, body=b"{}")),
    (400, "empty_array", chat(BEARER, messages=[])),
    (400, "invalid_type", chat(BEARER, messages="hello")),
    (400, "invalid_type", chat(BEARER, model=5)),
    (400, "string_above_max_length", chat(BEARER, model="m" * 513)),
    (400, "invalid_http", b"nonsense\r\n\r\n"),
    (401, "invalid_api_key", chat()),
    (404, "not_found", request("GET", "/v1/nothing", None, BEARER)),
    (404, "model_not_found", chat(BEARER, model="mana/nothing")),
    (404, "model_not_found", request("GET", "/v1/models/nothing", None, BEARER)),
    (405, "method_not_allowed", request("GET", CHAT, None, BEARER)),
    (405, "method_not_allowed", request("POST", "/v1/models", b"{}", BEARER)),
    (405, "method_not_allowed", request("PROPFIND", "/livez")),
    (413, "body_too_large", chat(BEARER, body=b"x" * 5000)),
    (415, "unsupported_media_type", chat(BEARER, "Content-Type: application/x-www-form-urlencoded")),
    (431, "headers_too_large", chat(BEARER, "A: " + "b" * 33_000)),
]


@pytest.mark.parametrize(
    ("status", "code", "data"), REFUSALS, ids=lambda value: None if isinstance(value, bytes) else value
)
def test_error_has_openais_shape_when_a_request_is_refused(status, code, data):
    """Every refusal is `{"error": {message, type, param, code}}` with its status and a content type."""

    async def play():
        async with gateway(api_keys=KEYS, body_bytes_max=4096) as running:
            return await ask(running.port, data)

    answer = run(play())
    assert (answer.status, answer.error["code"], answer.error["type"]) == (status, code, "invalid_request_error")
    assert answer.headers["content-type"] == "application/json"
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert ("allow" in answer.headers) == (status == 405)


class Unobserving:
    """An observer that the application alone would tell."""

    def request_began(self) -> None:
        """Count nothing."""

    def request_ended(self, exchange) -> None:
        """Note nothing."""


async def _nothing() -> None:
    return None


def test_client_gets_a_500_when_there_is_a_bug(caplog):
    """An unknown exception is a 500 in OpenAI's shape that tells nothing; the log has the traceback and the id."""

    async def broken(scope, receive, send):
        raise ZeroDivisionError("a secret detail")

    async def play():
        parts = (Authenticator(()), Unobserving(), SystemClock(), Ids("req-"))
        aliases = AliasRegistry("aliases: {mana/any: {chain: [lab/any]}}\ndefault: mana/any", {"lab": ""}, "lab")
        services = Services(*parts, _nothing, _nothing, Lifecycle(), aliases)
        app = Gateway(services, {}, {"/broken": Endpoint({"GET": broken})})
        async with edge(app) as running, client(running.port) as one:
            one.send(request("GET", "/broken") * 2)
            return [await one.answer() for _ in range(2)]

    for answer in run(play()):
        assert (answer.status, answer.error["type"], answer.error["code"]) == (500, "server_error", "internal_error")
        assert b"secret" not in answer.body
        assert any(answer.headers["x-request-id"] in record.getMessage() for record in caplog.records)
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


@pytest.mark.parametrize("prefix", ["/v1", "", "/openai/v1", "/v1/v1"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_path_is_found_when_the_base_url_is_a_little_off(prefix, slash):
    """With `/v1`, without it, with it twice and with a slash at the end, the API is there."""

    async def play():
        async with gateway() as running:
            listed = await ask(running.port, request("GET", f"{prefix}/models{slash}"))
            answered = await ask(running.port, request("POST", f"{prefix}/chat/completions{slash}", chat_body()))
            return listed.status, answered.status

    assert run(play()) == (200, 200)


@pytest.mark.parametrize(
    "model",
    [
        "mana/fast-text",
        "mana%2Ffast-text",
        "ollama/gemma3:4b",
        "ollama/gemma3%3A4b",
        "ollama%2fgemma3%3a4b",
        "mana/fast-text/",
    ],
)
def test_model_is_found_when_its_id_is_encoded_or_not(model):
    """An id with `/` and `:` in the path is found, percent-encoded or plain."""

    async def play():
        async with gateway() as running:
            return await ask(running.port, request("GET", f"/v1/models/{model}"))

    answer = run(play())
    assert answer.status == 200
    assert b'"object":"model"' in answer.body


def test_model_is_not_found_when_its_id_is_encoded_twice():
    """Percent-encoding is undone once: what is still encoded then is another name."""

    async def play():
        async with gateway() as running:
            return (await ask(running.port, request("GET", "/v1/models/mana%252Ffast-text"))).status

    assert run(play()) == 404


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/v1/models", "/metrics", "/nowhere", CHAT])
def test_head_says_what_get_says_when_there_is_no_body(path):
    """HEAD has GET's status and length, and the connection goes on."""

    async def play():
        async with gateway() as running, client(running.port) as one:
            await ask(running.port, request("GET", "/v1/models"))
            one.send(request("GET", path))
            got = await one.answer()
            one.send(request("HEAD", path))
            head = await one.answer(bodiless=True)
            one.send(request("GET", "/livez"))
            return got, head, (await one.answer()).status

    got, head, then = run(play())
    assert (head.status, then) == (got.status, 200)
    assert "content-length" in head.headers
    if path not in ("/metrics", CHAT):
        assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("path", ["/v1/models", CHAT, "/metrics", "/livez"])
def test_options_are_open_when_keys_are_set(path):
    """OPTIONS says which methods there are, without a key and without CORS headers."""

    async def play():
        async with gateway(api_keys=KEYS) as running:
            return await ask(running.port, request("OPTIONS", path, None, "Origin: https://a.example"))

    answer = run(play())
    assert answer.status == 204
    assert answer.headers["allow"].endswith(", OPTIONS")
    assert not [name for name in answer.headers if name.startswith("access-control")]


SANE = ["a", "req_1-2.3:4/5+6=7", "x" * 128]
ODD = ["", " ", "x" * 129, "a b", "ä", "a,b", '"a"', "<script>"]


@pytest.mark.parametrize("given", SANE + ODD)
def test_request_id_is_the_clients_when_it_is_sane(given):
    """A sane X-Request-Id comes back on answers and errors; another is replaced by one of ours."""

    async def play():
        async with gateway() as running:
            first = await ask(running.port, chat(f"X-Request-Id: {given}"))
            wrong = await ask(running.port, request("GET", "/nowhere", None, f"X-Request-Id: {given}"))
            return first.headers["x-request-id"], wrong.headers["x-request-id"]

    names = run(play())
    if given in SANE:
        assert set(names) == {given}
    else:
        assert len(set(names)) == 2
        assert all(name.startswith("req-") for name in names)


PREFLIGHT = (
    "Origin: https://a.example",
    "Access-Control-Request-Method: POST",
    "Access-Control-Request-Headers: authorization",
)


def test_web_page_may_call_when_its_origin_is_set():
    """With CORS_ORIGINS a preflight needs no key, answers and errors name the origin, and others are refused."""

    async def play():
        async with gateway(api_keys=KEYS, cors_origins=("https://a.example",)) as running:
            preflight = await ask(running.port, request("OPTIONS", CHAT, None, *PREFLIGHT))
            other = await ask(running.port, request("OPTIONS", CHAT, None, "Origin: https://b.example", *PREFLIGHT[1:]))
            good = await ask(running.port, chat(PREFLIGHT[0], BEARER))
            nobody = await ask(running.port, chat(PREFLIGHT[0]))
            return preflight, other, good, nobody

    preflight, other, good, nobody = run(play())
    origin = "access-control-allow-origin"
    assert (preflight.status, preflight.headers[origin]) == (200, "https://a.example")
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert (other.status, origin in other.headers) == (400, False)
    assert (good.status, good.headers[origin]) == (200, "https://a.example")
    assert (nobody.status, nobody.headers[origin]) == (401, "https://a.example")
    assert "x-mana-llm-resolved" in good.headers["access-control-expose-headers"]


def test_preflight_is_a_request_when_it_is_answered(tmp_path):
    """A preflight, allowed or not, says what every answer says and has its line and its count, without a key; one that
    is not allowed has OpenAI's shape.
    """

    async def play():
        settings = {"api_keys": KEYS, "cors_origins": ("https://a.example",)}
        async with logged(tmp_path, **settings) as (running, log):
            name = "X-Request-Id: mine"
            good = await ask(running.port, request("OPTIONS", CHAT, None, name, *PREFLIGHT))
            other = await ask(running.port, request("OPTIONS", CHAT, None, "Origin: https://b.example", *PREFLIGHT[1:]))
            plain = await ask(running.port, request("OPTIONS", CHAT, None, PREFLIGHT[0]))
            text = running.application.metrics.text()
        return (good, other, plain), log, counted(text, "mana_llm_requests_total", model="other")

    answers, log, count = run(play())
    assert [answer.status for answer in answers] == [200, 400, 204] == [line["status"] for line in log]
    assert [answer.headers["x-request-id"] for answer in answers] == [line["request_id"] for line in log]
    assert (log[0]["request_id"], count) == ("mine", 3)
    assert answers[1].error["code"] == "cors_disallowed"
    for answer in answers:
        assert answer.headers["x-mana-llm-config"] == log[0]["config"]
        assert "gateway;dur=" in answer.headers["server-timing"]
    assert answers[2].headers["access-control-allow-origin"] == "https://a.example"


def test_web_page_reads_the_refusal_when_its_body_is_too_large():
    """What a page sends too much of is refused with the headers that let the page read why."""

    async def play():
        async with gateway(body_bytes_max=4096, cors_origins=("https://a.example",)) as running:
            return await ask(running.port, chat(PREFLIGHT[0], body=b"x" * 5000))

    answer = run(play())
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (413, "https://a.example")


def test_web_page_may_not_call_when_no_origin_is_set():
    """By default no answer has a CORS header, and a preflight allows nothing."""

    async def play():
        async with gateway() as running:
            return [
                await ask(running.port, data)
                for data in (request("OPTIONS", CHAT, None, *PREFLIGHT), chat(PREFLIGHT[0]))
            ]

    for answer in run(play()):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.evil.example"])
def test_start_is_refused_when_others_could_call_without_a_key(host):
    """Bound beyond loopback without a key, the gateway does not start unless it is told that this is meant."""
    with pytest.raises(SettingsError, match="GPU_API_KEY"):
        make_gateway(Settings(host=host))
    make_gateway(Settings(host=host, allow_anonymous=True))
    make_gateway(Settings(host=host, gpu_api_key=KEYS[0]))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.53"])
def test_start_needs_no_key_when_only_this_machine_can_call(host):
    """On loopback no key is needed."""
    make_gateway(Settings(host=host))


def test_asyncio_serves_too_when_there_is_no_uvloop():
    """On asyncio's own loop, as on Windows, chats, refusals and upgrades are answered all the same."""

    async def play():
        async with gateway(body_bytes_max=4096) as running, client(running.port) as one:
            one.send(chat() + chat("Connection: Upgrade", "Upgrade: h2c") + chat(body=b"x" * 5000))
            return [(await one.answer()).status for _ in range(3)], await one.ended()

    assert asyncio.run(play()) == ([200, 200, 413], b"")
