"""Writes images and sounds as Ollama takes them: bare base64 in a message's `images`. Source: docs/sources.md (Ollama).

An image is megabytes. Its base64 is cut out of the request and set into the body as bytes: it is never decoded,
and looked at twice, once for its end and once for its alphabet (together 1.2 ms for 2 MB; `a2b_base64` alone
takes 3.8 ms).
"""

import re
from binascii import b2a_base64
from typing import Any, Final

import msgspec

from mana_llm.schema.chat import ChatRequest, Fetched, Message, Part
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import JSONDecodeError, decode_json, decode_text

URL_BYTES_MAX: Final = 8 * 1024
"""An http(s) URL longer than this is none; it also spares a look into every inline image."""

ENDS_BYTES: Final = 256
"""How much of either end of an image's object is looked at for what stands beside its URL."""

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DATA: Final = re.compile(rb"data:(?P<type>[^;,]{0,100})(?:;[^;,]{1,100}){0,5}?;base64,", re.IGNORECASE)
_HTTP: Final = re.compile(rb"https?://", re.IGNORECASE)


class _Image(msgspec.Struct):
    url: msgspec.Raw


class _Detailed(msgspec.Struct):
    detail: Any = None


class _Audio(msgspec.Struct):
    data: msgspec.Raw


def kinds_of(messages: list[Message]) -> set[str]:
    """The types of all parts."""
    return {part.type for message in messages if isinstance(message.content, list) for part in message.content}


def asks_for_detail(messages: list[Message]) -> bool:
    """Whether an image is to be seen in another size than the model's own; for messages that can be written."""
    parts = (part for message in messages if isinstance(message.content, list) for part in message.content)
    return any(part.type == "image_url" and _detail_of(part.image_url) not in (None, "auto") for part in parts)


def _detail_of(image_url: msgspec.Raw) -> Any:
    view = memoryview(image_url)
    # The member stands before or after the URL, and looking there takes no time, however large the image is.
    if b'"detail"' not in bytes(view[:ENDS_BYTES]) and b'"detail"' not in bytes(view[-ENDS_BYTES:]):
        return None
    try:
        return decode_json(image_url, _Detailed).detail
    except JSONDecodeError:
        # A bare URL.
        return None


def urls_in(messages: list[Message]) -> tuple[str, ...]:
    """The http(s) URLs of images, each once, in their order; what is no image part is left to `image_of`."""
    found: dict[str, None] = {}
    for message in messages:
        if isinstance(message.content, list):
            found |= {url: None for part in message.content if (url := _url_to_fetch(part))}
    return tuple(found)


def _url_to_fetch(part: Part) -> str:
    """The URL of an image part; "" if there is none, or nothing to fetch."""
    if part.type != "image_url" or memoryview(part.image_url).nbytes > URL_BYTES_MAX:
        return ""
    try:
        url = _bytes_of(part.image_url)
    except JSONDecodeError:
        return ""
    return _text_of(url) if _HTTP.match(url) else ""


def image_of(part: Part, place: str, request: ChatRequest) -> msgspec.Raw:
    """The base64 of an image, as a JSON text.

    Raises:
        RequestError: if it is neither a data: URI that holds an image in base64, nor a URL that was fetched.
    """
    place = f"{place}.image_url"
    try:
        url = _bytes_of(part.image_url)
    except JSONDecodeError as error:
        raise RequestError(f"'{place}' must be an object with a 'url'.", param=place) from error
    if _HTTP.match(url):
        return _fetched(request.fetched.get(_text_of(url)), place)
    head = _DATA.match(url)
    if head is None:
        raise RequestError(f"'{place}' must be an http(s) URL or a data: URI in base64.", param=place)
    if head["type"] and not head["type"].lower().startswith(b"image/"):
        raise RequestError(f"'{place}' holds no image: its media type is another.", param=place)
    return _base64(url[head.end() :], place)


def audio_of(part: Part, place: str) -> msgspec.Raw:
    """The base64 of a sound, as a JSON text. Raises RequestError if it is none."""
    place = f"{place}.input_audio"
    try:
        data = _unquoted(decode_json(part.input_audio, _Audio).data)
    except JSONDecodeError as error:
        raise RequestError(f"'{place}' must be an object with 'data' in base64.", param=place) from error
    return _base64(data, place)


def _text_of(url: bytes) -> str:
    # What stands in a request as Raw was never checked to be UTF-8.
    return url.decode(errors="replace")


def _bytes_of(image_url: msgspec.Raw) -> bytes:
    """The URL; some clients give it bare, without an object around it."""
    if bytes(memoryview(image_url)[:1]) == b'"':
        return _unquoted(image_url)
    return _unquoted(decode_json(image_url, _Image).url)


def _unquoted(raw: msgspec.Raw) -> bytes:
    """The bytes of a JSON string; without a backslash they are what stands between the quotes."""
    text = bytes(raw)
    if text[:1] != b'"' or b"\\" in text:
        try:
            return decode_text(text).encode()
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise JSONDecodeError("not a string") from error
    return text[1:-1]


def _base64(data: bytes, place: str) -> msgspec.Raw:
    if b"\n" in data[:1000] or b"\r" in data[:1000]:
        # Some encoders break lines, the first after 76 characters.
        data = data.translate(None, b"\r\n")
    rest = data.translate(None, _ALPHABET)
    whole = data and len(data) % 4 == 0 and rest in (b"", b"=", b"==") and data.endswith(rest)
    if not whole:
        raise RequestError(f"'{place}' holds no valid base64.", param=place)
    return msgspec.Raw(b'"%b"' % data)


def _fetched(fetched: Fetched | None, place: str) -> msgspec.Raw:
    if fetched is None:
        raise RequestError(f"'{place}' could not be fetched. Send the image as a data: URI.", param=place)
    return msgspec.Raw(b'"%b"' % b2a_base64(fetched.data, newline=False))
