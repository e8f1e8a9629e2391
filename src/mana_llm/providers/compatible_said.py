"""An error as an OpenAI-compatible server worded it, whatever shape it has.

`{"error": {"message", "type", "param", "code"}}` (OpenAI; Groq without param; OpenRouter and llama.cpp with a number
as code), `{"error": "text"}` (Hugging Face, Venice), `{"message", "code", "type"}` (Mistral, Cerebras, older vLLM),
`{"detail": "text"}` and `{"detail": [{"loc", "msg"}]}` (FastAPI servers, Mistral), and OpenRouter's `metadata` with
the words of the provider behind it. Source: recorded traffic.
"""

from typing import Any, Final

import msgspec

from mana_llm.schema.wire import Headers, JSONDecodeError, decode_json

DEPTH_MAX: Final = 3
"""Errors quote errors; nobody quotes deeper."""


class Said(msgspec.Struct):
    """What was understood; every member may be missing. `blocked` says that a filter stopped the prompt.

    `limits` are the headers of a provider behind this one, as it quotes them.
    """

    message: str = ""
    code: str | None = None
    kind: str | None = None
    param: str | None = None
    status: int | None = None
    retry_after_s: float | None = None
    blocked: bool = False
    limits: Headers = []


def said_in(value: Any, depth: int = DEPTH_MAX) -> Said:
    """Read any of the known shapes; never fails."""
    if isinstance(value, list) and len(value) == 1:
        # Google's own surface of OpenAI's API puts a list around it.
        value = value[0]
    if not isinstance(value, dict) or depth == 0:
        return Said()
    error = value.get("error") or value
    if not isinstance(error, dict):
        return Said(message=error if isinstance(error, str) else "")
    code, status = error.get("code"), error.get("status_code")
    said = Said(
        message=_message(error, depth),
        code=_text(code),
        kind=_text(error.get("type")),
        param=_text(error.get("param")),
        status=_status(code) or _status(status),
    )
    metadata = error.get("metadata")
    return _with_metadata(said, metadata, depth) if isinstance(metadata, dict) else said


def _message(error: dict[str, Any], depth: int) -> str:
    message = error.get("message") or error.get("detail")
    if isinstance(message, list):
        return "; ".join(_complaint(row) for row in message if isinstance(row, dict))
    if isinstance(message, dict):
        return said_in(message, depth - 1).message
    return message if isinstance(message, str) else ""


def _complaint(row: dict[str, Any]) -> str:
    """A validation error: the place and what is wrong there, without the value, which is the client's."""
    loc = row.get("loc")
    place = ".".join(str(part) for part in loc if part != "body") if isinstance(loc, list) else ""
    return f"{place}: {row.get('msg', 'wrong')}" if place else str(row.get("msg", "wrong"))


def _with_metadata(said: Said, metadata: dict[str, Any], depth: int) -> Said:
    inner = _raw(metadata.get("raw"), depth)
    if inner.message:
        # The outer message is "Provider returned error" then, and says nothing.
        said.message = f"{said.message}: {inner.message}" if said.message else inner.message
    said.code = said.code or inner.code
    said.kind = said.kind or inner.kind
    wait = metadata.get("retry_after_seconds")
    headers = metadata.get("headers")
    if wait is None and isinstance(headers, dict):
        wait = headers.get("Retry-After")
    if isinstance(headers, dict):
        said.limits = [
            (name.lower().encode(errors="replace"), value.encode(errors="replace"))
            for name, value in headers.items()
            if isinstance(value, str)
        ]
    said.retry_after_s = _number(wait)
    said.blocked = bool(metadata.get("reasons") or metadata.get("flagged_input"))
    return said


def _raw(raw: Any, depth: int) -> Said:
    """What the provider behind a router said: an object, its text, or plain words."""
    if isinstance(raw, str):
        try:
            raw = decode_json(raw.encode())
        except (JSONDecodeError, UnicodeEncodeError):
            return Said(message=raw)
    return said_in(raw, depth - 1)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _status(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
