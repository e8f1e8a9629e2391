"""Turns the parts of OpenAI's messages into Gemini's. Source: docs/sources.md (Gemini).

Bytes go inline: the base64 of a data URI is cut out of it, looked over and sent as it stands, never decoded.
"""

import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import cannot
from mana_llm.schema.chat import Fetched, Message, Part
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import JSONDecodeError, decoder_of

Json = dict[str, Any]

_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]+")
_OTHER_NAMES: Final = {"image/jpg": "image/jpeg"}
# Source: ai.google.dev, audio understanding: the formats that it takes; OpenAI's are the first two.
_AUDIO: Final = ("wav", "mp3", "aiff", "aac", "ogg", "flac")
_WEB: Final = ("http://", "https://")
_WEB_CHARS: Final = len("https://")
# Proto JSON takes both alphabets, with padding or without.
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
# MIME's base64 is wrapped into lines; whether that is read is the provider's to say.
_WHITE: Final = b" \t\r\n"
_LOOKED_CHARS: Final = 64 * 1024
"""Base64 is looked over piece by piece, so that nothing large is copied."""


class _Link(msgspec.Struct):
    url: str
    detail: str | None = None


class _Audio(msgspec.Struct):
    data: str
    format: str


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None


_decode_link: Final = decoder_of(_Link | str)
_decode_audio: Final = decoder_of(_Audio)
_decode_file: Final = decoder_of(_File)


class Parts:
    """Reads the contents of one request's messages; `fetched` are the images that the gateway fetched for it.

    `details_ignored` says whether an image asked for a resolution, which has no place here.
    """

    def __init__(self, fetched: Mapping[str, Fetched]) -> None:
        self.details_ignored = False
        self._fetched = fetched

    def of(self, message: Message, place: str) -> list[Json]:
        """The parts of a message's content, in order; none only if an assistant's message has no content.

        Raises:
            RequestError: if there is no content, or a part cannot be read; `param` names the place.
            ProviderCapabilityError: if a part is of a kind that Gemini does not take.
        """
        content = message.content
        if not content and message.refusal and message.role == "assistant":
            return [{"text": message.refusal}]
        if isinstance(content, str):
            return [{"text": content}]
        if content is None:
            if message.role == "assistant":
                return []
            raise RequestError(f"'{place}.content' is missing.", param=f"{place}.content")
        return [self._part(part, f"{place}.content[{index}]") for index, part in enumerate(content)]

    def _part(self, part: Part, place: str) -> Json:
        kind = part.type
        if kind in ("text", "refusal"):
            return {"text": _present(part.text if kind == "text" else part.refusal, f"{place}.{kind}")}
        if kind == "image_url":
            return self._image(_read(part.image_url, _decode_link, f"{place}.image_url"), f"{place}.image_url")
        if kind == "input_audio":
            return _audio(_read(part.input_audio, _decode_audio, f"{place}.input_audio"), f"{place}.input_audio")
        if kind == "file":
            return _file(_read(part.file, _decode_file, f"{place}.file"), f"{place}.file")
        if kind == "video_url":
            link = _read(part.video_url, _decode_link, f"{place}.video_url")
            if _is_web(url := _url_of(link)):
                raise cannot(f"{place}.video_url", "videos by URL")
            return inline(url, f"{place}.video_url")
        raise cannot(place, f"content of the type '{kind[:40]}'")

    def _image(self, link: _Link | str, place: str) -> Json:
        url = _url_of(link)
        if not isinstance(link, str) and link.detail not in (None, "auto"):
            self.details_ignored = True
        if not _is_web(url):
            return inline(url, place)
        if (found := self._fetched.get(url)) is None:
            raise cannot(place, "images by URL that were not fetched for it")
        data = binascii.b2a_base64(found.data, newline=False).decode("ascii")
        return {"inlineData": {"mimeType": found.media_type, "data": data}}


def urls_in(messages: list[Message]) -> Iterator[str]:
    """The http(s) URLs of images: Gemini does not fetch every one itself, so that all are fetched for it."""
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            if part.type == "image_url" and (url := _web_url_in(part.image_url)):
                yield url


def inline(uri: str, place: str) -> Json:
    """The part that a data URI is. Raises RequestError, which never quotes it, if it is none in base64.

    The base64 is not decoded: its alphabet, its padding and whether its length is possible are looked at.
    """
    head, comma, data = uri.partition(",")
    scheme, _, described = head.partition(":")
    kind, *parameters = described.lower().split(";") if comma else ("",)
    if scheme.lower() != "data" or "base64" not in parameters or not data:
        raise RequestError(f"'{place}' must be a data: URI in base64.", param=place)
    if not _MEDIA_TYPE.fullmatch(kind):
        raise RequestError(f"'{place}' has no media type that can be read.", param=place)
    _check_base64(data, place)
    return {"inlineData": {"mimeType": _OTHER_NAMES.get(kind, kind), "data": data}}


def _audio(audio: _Audio, place: str) -> Json:
    if audio.format not in _AUDIO:
        raise RequestError(f"'{place}.format' must be one of {', '.join(_AUDIO)}.", param=f"{place}.format")
    if not audio.data:
        raise RequestError(f"'{place}.data' is empty.", param=f"{place}.data")
    _check_base64(audio.data, f"{place}.data")
    return {"inlineData": {"mimeType": f"audio/{audio.format}", "data": audio.data}}


def _check_base64(data: str, place: str) -> None:
    if not _is_base64(data):
        raise RequestError(f"'{place}' is no base64 that can be read.", param=place)


def _is_base64(data: str) -> bool:
    """Whether `data` can be decoded: 1 ms for 2 MB, where decoding would take 6 and a regular expression 4."""
    if not data.isascii():
        return False
    pieces = (data[at : at + _LOOKED_CHARS].encode() for at in range(0, len(data), _LOOKED_CHARS))
    others = b"".join(piece.translate(None, _BASE64) for piece in pieces)
    padding = others.translate(None, _WHITE)
    over = (len(data) - len(others)) % 4
    if not padding:
        return over != 1 and len(others) < len(data)
    return over > 1 and padding == b"=" * (4 - over) and data.rstrip(_WHITE.decode()).endswith(padding.decode())


def _file(file: _File, place: str) -> Json:
    if file.file_data is None:
        if file.file_id is not None:
            raise cannot(f"{place}.file_id", "files that were uploaded elsewhere")
        raise RequestError(f"'{place}.file_data' is missing.", param=f"{place}.file_data")
    return inline(file.file_data, f"{place}.file_data")


def _read(raw: msgspec.Raw, decode: Callable[[msgspec.Raw], Any], place: str) -> Any:
    if not raw:
        raise RequestError(f"'{place}' is missing.", param=place)
    try:
        return decode(raw)
    except JSONDecodeError as error:
        raise RequestError(f"'{place}' cannot be read: {error}.", param=place) from error


def _present(text: str | None, place: str) -> str:
    if text is None:
        raise RequestError(f"'{place}' is missing.", param=place)
    return text


def _url_of(link: _Link | str) -> str:
    # A bare string is not OpenAI's; several servers of its API take it.
    return link if isinstance(link, str) else link.url


def _web_url_in(raw: msgspec.Raw) -> str:
    """The URL if it is one of the web's; a data URI, which may be large, is told by its beginning."""
    if not raw or b'"data:' in bytes(memoryview(raw)[:64]):
        return ""
    try:
        url = _url_of(_decode_link(raw))
    except JSONDecodeError:
        return ""
    return url if _is_web(url) else ""


def _is_web(url: str) -> bool:
    # A scheme means the same in any case; a data URI may be large, so that only its beginning is looked at.
    return url[:_WEB_CHARS].lower().startswith(_WEB)
