"""Images and sounds on their way to Ollama."""

import base64
import json
import time

import pytest

from mana_llm.schema import errors
from mana_llm.schema.chat import Fetched
from tests.providers.ollama_world import called, ollama, request, sent

PNG = "iVBORw0KGgo="


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def image(url):
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def text(words):
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    "part",
    [
        image(f"data:image/png;base64,{PNG}"),
        image(f"DATA:IMAGE/PNG;BASE64,{PNG}"),
        image(f"data:image/png;charset=utf-8;base64,{PNG}"),
        image(f"data:;base64,{PNG}"),
        image(f"data:image/png;base64,{PNG[:6]}\r\n{PNG[6:]}"),
        {"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"},
        {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
    ],
)
def test_image_stands_beside_the_text_when_it_is_a_data_uri(part):
    """The bare base64 is in `images`, the texts around it are the content."""
    assert sent(messages=user(text("a"), part, text("b")))["messages"] == [
        {"role": "user", "content": "a\nb", "images": [PNG]}
    ]


def test_image_is_the_same_when_its_slashes_are_escaped():
    """Some encoders write a backslash before each slash, which is the same JSON string."""
    asked = request(messages=user(image("data:image/png;base64,ab//")))
    asked.fields["messages"] = type(asked.fields["messages"])(bytes(asked.fields["messages"]).replace(b"/", b"\\/"))
    assert json.loads(ollama().encode_chat(asked, "m").body)["messages"][0]["images"] == ["ab//"]


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,",
        "data:image/png;base64,abc",
        "data:image/png;base64,ab=c",
        "data:image/png;base64,abc-",
        "data:image/png;base64,a===",
        "data:image/png,abcd",
        f"data:text/plain;base64,{PNG}",
        "file:///etc/passwd",
        "iVBO",
        "",
        5,
        None,
    ],
)
def test_image_is_refused_with_its_place_when_it_is_none(url):
    """Bad base64, another media type and other schemes are the client's mistake."""
    with pytest.raises(errors.RequestError) as caught:
        sent(messages=user(text("a"), image(url)))
    assert caught.value.param == "messages[0].content[1].image_url"


@pytest.mark.parametrize("audio", [{}, {"data": "a"}, {"data": 5}, None, "x"])
def test_sound_is_refused_with_its_place_when_it_is_none(audio):
    """A sound without base64 is the client's mistake."""
    with pytest.raises(errors.RequestError) as caught:
        sent(messages=user({"type": "input_audio", "input_audio": audio}))
    assert caught.value.param == "messages[0].content[0].input_audio"


def test_urls_are_fetched_once_when_images_name_them():
    """Only http(s) URLs are to be fetched, each once; what came back stands in `images`."""
    parts = (image("https://x/a.png"), image("HTTP://x/b"), image("https://x/a.png"), image("data:,x"), image(None))
    assert ollama().urls_to_fetch(request(messages=user(*parts))) == ("https://x/a.png", "HTTP://x/b")
    asked = request(messages=user(image("https://x/a.png")))
    asked.fetched["https://x/a.png"] = Fetched("image/png", b"png")
    body = json.loads(ollama().encode_chat(asked, "m").body)
    assert body["messages"][0]["images"] == [base64.b64encode(b"png").decode()]


def test_image_is_refused_when_its_url_was_not_fetched():
    """A URL that nobody fetched never becomes a prompt without its image."""
    with pytest.raises(errors.RequestError, match="could not be fetched"):
        sent(messages=user(image("https://x/a.png")))


def test_large_image_is_cheap_when_it_is_translated():
    """Two megabytes take a few milliseconds of CPU, all calls of an attempt together: they are never decoded."""
    raw = json.dumps(user(text("a"), image("data:image/png;base64," + "abcd" * 500_000))).encode()

    def once():
        asked = request()
        asked.fields["messages"] = type(asked.fields["messages"])(raw)
        began = time.process_time()
        provider = ollama()
        provider.questions(asked, "m")
        provider.judge(asked, "m", (b'{"capabilities":["vision"]}', None))
        provider.urls_to_fetch(asked)
        provider.encode_chat(asked, "m")
        return time.process_time() - began

    assert min(once() for _ in range(5)) < 0.015


@pytest.mark.parametrize(
    ("part", "ignored"),
    [
        (image(f"data:image/png;base64,{PNG}"), ("messages.content.image_url.detail",)),
        (image("data:image/png;base64," + "abcd" * 50_000), ("messages.content.image_url.detail",)),
        (
            {"type": "image_url", "image_url": {"detail": "high", "url": "data:;base64,AAAA"}},
            ("messages.content.image_url.detail",),
        ),
        ({"type": "image_url", "image_url": {"url": "data:;base64,AAAA", "detail": "auto"}}, ()),
        ({"type": "image_url", "image_url": {"url": "data:;base64,AAAA", "detail": None}}, ()),
        ({"type": "image_url", "image_url": {"url": "data:;base64,AAAA"}}, ()),
        ({"type": "image_url", "image_url": "data:;base64,AAAA"}, ()),
    ],
)
def test_detail_is_named_as_ignored_when_an_image_asks_for_one(part, ignored):
    """Ollama has one size for every image; `auto` leaves that to it."""
    assert called(messages=user(text("a"), part)).ignored == ignored
