"""Recorded provider traffic, read from `MANA_LLM_RECORDED` or `../shared/recorded`; never copied here."""

import base64
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(os.environ.get("MANA_LLM_RECORDED") or Path(__file__).parents[2] / "shared" / "recorded")
ABSENT = f"no recordings at {ROOT}: set MANA_LLM_RECORDED to the folder that has them"


class Recording(NamedTuple):
    """One exchange; `file` is the name with the number of the exchange, headers are lower-case."""

    file: str
    request: dict[str, Any]
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def url(self) -> str:
        return str(self.request["url"])

    def __repr__(self) -> str:
        return f"<Recording {self.file}>"


def recordings(provider: str) -> list[Recording]:
    """Every exchange recorded with `provider` (a folder's name), in order; none if there is no folder."""
    return [
        _recording(f"{path.name}#{at}", exchange)
        for path in sorted((ROOT / provider).glob("*.json"))
        for at, exchange in enumerate(json.loads(path.read_bytes())["interactions"])
    ]


def cases(provider: str, chosen: Any) -> list[Any]:
    """Parameters for pytest: the recordings that `chosen` takes, or one skipped case that says why."""
    if not ROOT.is_dir():
        return [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT))]
    return [pytest.param(found, id=found.file) for found in recordings(provider) if chosen(found)]


def _recording(file: str, exchange: dict[str, Any]) -> Recording:
    response = exchange["response"]
    headers = [(name.lower().encode(), str(value).encode()) for name, value in response["headers"].items()]
    return Recording(file, exchange["request"], response["status"], headers, _body_of(response))


def _body_of(response: dict[str, Any]) -> bytes:
    if "json" in response:
        return json.dumps(response["json"], ensure_ascii=False).encode()
    if "body_b64" in response:
        return base64.b64decode(response["body_b64"])
    return str(response.get("text", "")).encode()


Pieces = Iterable[bytes]
BODY_BYTES_MAX = 3000
"""Up to here a body is split in two at each of its bytes; a longer one is shortened for that first."""


def streamed(decoder: Any, pieces: Pieces) -> tuple[list[Any], tuple[Any, ...]]:
    """Feed `pieces` and the end as a reader does; the chunks, and (done, failure's class, failure's message)."""
    chunks: list[Any] = []
    for piece in pieces:
        chunks += decoder.feed(piece)
        if decoder.done or decoder.failure:
            break
    else:
        chunks += decoder.end()
    failure = decoder.failure
    return chunks, (decoder.done, type(failure), getattr(failure, "message", None))


def assert_same_at_every_split(open_stream: Callable[[], Any], body: bytes, end: bytes) -> None:
    """One byte at a time and in two at every byte, `body` decodes as it does whole; `end` ends its frames."""
    whole = streamed(open_stream(), [body])
    assert streamed(open_stream(), (body[at : at + 1] for at in range(len(body)))) == whole
    short = shortened(body, end)
    expected = streamed(open_stream(), [short])
    for at in range(len(short) + 1):
        assert streamed(open_stream(), [short[:at], short[at:]]) == expected, at


def shortened(body: bytes, end: bytes) -> bytes:
    """`body`, or its first two frames, those with tool calls, and its last two: cheap to split."""
    if len(body) <= BODY_BYTES_MAX:
        return body
    frames = body.rstrip().split(end)
    kept = [*frames[:2], *(frame for frame in frames[2:-2] if b'"tool_calls"' in frame), *frames[-2:]]
    return end.join(kept) + end
