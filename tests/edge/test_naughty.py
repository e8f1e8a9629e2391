"""Strings that break software, everywhere that a client can put one."""

import json
import logging
import re
from urllib.parse import quote

from tests.edge.wire import HELLO, KEYS, MODEL, ask, chat, client, corpus, request, run
from tests.world import gateway

RAW = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
MARK = "naughty-mark"


def strings() -> list[str]:
    found = json.loads((corpus("naughty") / "blns.json").read_text(encoding="utf-8"))
    assert len(found) == 515
    return found


PLACES = {
    "content": lambda text: {"messages": [{"role": "user", "content": text}]},
    "name of a speaker": lambda text: {"messages": [{"role": "user", "name": text, "content": "a"}]},
    "model": lambda text: {"model": f"openai/{text}"},
    "bare model": lambda text: {"model": text},
    "alias": lambda text: {"model": f"mana/{text}"},
    "tool": lambda text: {"tools": [{"type": "function", "function": {"name": text, "parameters": {}}}]},
    "user": lambda text: {"user": text},
    "metadata": lambda text: {"metadata": {text: text}},
    "member": lambda text: {text: text},
    "role": lambda text: {"messages": [{"role": text, "content": "a"}]},
}


async def tried(model: str) -> tuple[list[tuple[str, str, int]], list[str]]:
    """Every string at every place: what was not an answer or a clear 4xx, and header values that were not plain."""
    wrong, headers = [], []
    async with gateway() as running, client(running.port) as one:
        for text in strings():
            for place, fields in PLACES.items():
                one.send(chat(**{"model": model, "messages": HELLO, **fields(text)}))
                answer = await one.answer()
                if answer.status != 200 and not (400 <= answer.status < 500 and answer.error):
                    wrong.append((place, text, answer.status))
                headers += answer.headers.values()
    return wrong, headers


def test_nothing_breaks_when_a_string_stands_anywhere_in_a_request(caplog):
    """R50 (515 of 515): at ten places of a request, a naughty string is answered or a clear 4xx, never a 5xx.

    No string reaches a log record or a response header raw.
    """
    caplog.set_level(logging.DEBUG, "mana_llm")
    wrong, headers = run(tried(MODEL))
    assert wrong == []
    assert [value for value in headers if not (value.isascii() and value.isprintable())] == []
    assert [record.getMessage() for record in caplog.records if RAW.search(record.getMessage())] == []


def test_nothing_breaks_when_the_request_is_translated():
    """R50 (515 of 515): the same before a provider of another dialect."""
    wrong, headers = run(tried("ollama/gemma3:4b"))
    assert wrong == []
    assert [value for value in headers if not (value.isascii() and value.isprintable())] == []


def test_content_arrives_as_it_was_sent_when_it_is_naughty():
    """R50 (515 of 515): the provider gets each string as it was sent, by its own dialect or a translated one."""

    async def play():
        async with gateway() as running, client(running.port) as one:
            for model in (MODEL, "ollama/gemma3:4b", "google/gemini-3.5-flash-lite"):
                running.simulator.log.clear()
                for text in strings():
                    one.send(chat(model=model, messages=[{"role": "user", "content": text or " "}]))
                    assert (await one.answer()).status == 200
                bodies = [entry.body for entry in running.simulator.log if entry.method == "POST"]
                assert [_content(body) for body in bodies] == [text or " " for text in strings()]

    run(play())


def _content(body) -> str:
    if "contents" in body:
        return body["contents"][0]["parts"][0]["text"]
    return body["messages"][0]["content"]


def test_key_is_refused_when_it_is_naughty():
    """R50 (515 of 515): as a key, each string is the same 401, or a 400 where it cannot stand in a header."""

    async def play():
        found = set()
        async with gateway(api_keys=KEYS) as running:
            for text in strings():
                for name in ("Authorization: Bearer ", "X-Api-Key: ", "Authorization: "):
                    head, _, rest = request("GET", "/v1/models").partition(b"\r\n\r\n")
                    answer = await ask(running.port, head + f"\r\n{name}{text}".encode() + b"\r\n\r\n" + rest)
                    found.add((answer.status, answer.error["code"], answer.error["message"]))
        return found

    found = run(play())
    assert {(status, code) for status, code, _ in found} == {(401, "invalid_api_key"), (400, "invalid_http")}
    assert len(found) == 2


def test_header_is_harmless_when_it_is_naughty(caplog):
    """R50 (515 of 515): as a request id or any other header, each string is ignored, echoed if plain, or a 400."""
    caplog.set_level(logging.DEBUG, "mana_llm")

    async def play():
        async with gateway() as running:
            for text in strings():
                lines = f"X-Request-Id: {text}\r\nX-Any: {text}\r\n".encode()
                answer = await ask(running.port, request("GET", "/livez")[:-2] + lines + b"\r\n")
                echoed = answer.headers.get("x-request-id", "")
                assert answer.status in (200, 400)
                assert not echoed or re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", echoed)
                assert answer.status == 400 or echoed == text.strip(" ") or echoed.startswith("req-")

    run(play())
    assert caplog.records == []


def test_path_is_a_plain_404_when_it_is_naughty():
    """R50 (515 of 515): as a path and as a model's id, each string is a 404 that shows it escaped."""

    async def play():
        async with gateway() as running:
            for text in strings():
                for path in (f"/{MARK}{quote(text, safe='')}", f"/v1/models/{MARK}{quote(text, safe='')}"):
                    answer = await ask(running.port, request("GET", path))
                    assert (answer.status, answer.error["type"]) == (404, "invalid_request_error")
                    assert not RAW.search(answer.error["message"])
                    assert answer.error["message"].isascii()

    run(play())
