"""Failures on both sides of a call: answers that mean a failure, and request fields that cannot be carried.

A provider translates twice, and both ways most branches end in an error. Those that do not depend on whose
API it is stand here: the status table of DESIGN 4.2, the wish to come later, and the reading of OpenAI's
request fields, where each function gives a value or raises the error that names the place.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mana_llm.schema.chat import ChatRequest, Message, Part
from mana_llm.schema.errors import (
    GatewayError,
    ProviderAuthError,
    ProviderCapabilityError,
    ProviderError,
    ProviderProtocolError,
    ProviderQuotaError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderServerError,
    RequestError,
)
from mana_llm.schema.wire import NULL, Headers, JSONDecodeError, decode_json

MESSAGE_CHARS_MAX: Final = 1000
"""How much of a provider's own words is passed on: enough for a message, too little for an echoed prompt."""

Fields = Mapping[str, msgspec.Raw]
"""The top-level members of a chat request."""

# Source: DESIGN 4.2. 408, 409, 425: try again; 498: a cheap tier is full; 499: the upstream's own caller
# left.
_FAILED: Final = frozenset({408, 409, 425, 498, 499})
_OUT_OF_QUOTA: Final = "insufficient_quota"
_SECONDS: Final = re.compile(rb"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*")
_GATEWAYS_OWN: Final = frozenset({"model", "messages", "stream", "stream_options"})
_CHECKED: Final = frozenset(
    {
        "tools",
        "functions",
        "tool_choice",
        "function_call",
        "response_format",
        "modalities",
        "web_search_options",
    }
)


def failure_for(
    status: int,
    message: str,
    *,
    retry_after_s: float | None = None,
    code: str | None = None,
    param: str | None = None,
) -> ProviderError:
    """The error that an answer of this status is.

    `message` is the provider's own; of an answer that refuses our key it is not used, since it may quote the
    key. `code` `insufficient_quota` makes any 4xx a ProviderQuotaError. A 1xx or 2xx is a
    ProviderProtocolError.
    """
    message = message[:MESSAGE_CHARS_MAX] or f"The provider answered {status} without a message."
    if status in (401, 403):
        return refused_key(status)
    if status == 402 or (code == _OUT_OF_QUOTA and 400 <= status < 500):
        return ProviderQuotaError(message, retry_after_s=retry_after_s, param=param)
    if status == 429:
        return ProviderRateLimitError(message, retry_after_s=retry_after_s, param=param)
    if status >= 500 or status in _FAILED or 300 <= status < 400:
        return ProviderServerError(message, retry_after_s=retry_after_s, param=param)
    if status >= 400:
        return ProviderRequestError(message, status=status, code=code, param=param)
    return ProviderProtocolError(message, retry_after_s=retry_after_s, param=param)


def refused_key(status: int) -> ProviderAuthError:
    """The error for an answer that refuses our key, in our words: the provider's may quote the key."""
    return ProviderAuthError(
        f"The provider refused the gateway's key ({status}). Its operator must mend that."
    )


def retry_after_s(headers: Headers) -> float | None:
    """How long the provider asks to be left alone, in seconds; None if it does not say so in a number.

    `retry-after-ms` goes before `retry-after`. HTTP dates are ignored: nothing here has a clock.
    Source: openai-python _base_client.py (both names); RFC 9110, section 10.2.3.
    """
    given_by = dict(headers)
    for name, per_second in ((b"retry-after-ms", 1000), (b"retry-after", 1)):
        if match := _SECONDS.fullmatch(given_by.get(name, b"")):
            return float(match[1]) / per_second
    return None


def given(fields: Fields, name: str) -> msgspec.Raw | None:
    """The member called `name`; None if it is absent or null, which mean the same in OpenAI's API."""
    raw = fields.get(name)
    return None if raw is None or raw == NULL else raw


def read(fields: Fields, name: str, shape: object) -> Any:  # noqa: ANN401 - what `shape` says
    """The member called `name` as `shape`; None if it was not given.

    Raises:
        RequestError: if it is of another shape.
    """
    raw = given(fields, name)
    if raw is None:
        return None
    try:
        return decode_json(raw, shape)
    except JSONDecodeError as error:
        raise RequestError(f"'{name}' cannot be read: {error}.", param=name) from error


def carried(fields: Fields, names: Mapping[str, tuple[str, Any]]) -> dict[str, msgspec.Raw]:
    """The given fields among `names`, each checked and under the provider's own name, the value untouched.

    `names` maps ours to (theirs, shape). Where two of ours have one name there, the later one wins.

    Raises:
        RequestError: if one is of another shape.
    """
    return {
        theirs: fields[ours]
        for ours, (theirs, shape) in names.items()
        if read(fields, ours, shape) is not None
    }


def stop_of(fields: Fields) -> list[str]:
    """The stop sequences: none, one (a string) or several."""
    stop = read(fields, "stop", str | list[str])
    return [stop] if isinstance(stop, str) else stop or []


def count_of(fields: Fields) -> int:
    """How many choices are asked for.

    Raises:
        RequestError: if that is not a positive number.
    """
    count = read(fields, "n", int)
    if count is not None and count < 1:
        raise RequestError("'n' must be at least 1.", param="n")
    return 1 if count is None else int(count)


def ignored_of(fields: Fields, used: frozenset[str]) -> tuple[str, ...]:
    """The given fields that a provider has no place for, sorted; `used` are those that it has one for."""
    known = used | _GATEWAYS_OWN | _CHECKED
    return tuple(sorted(name for name in fields if name not in known and given(fields, name) is not None))


def cannot(param: str, what: str) -> ProviderCapabilityError:
    """The error for something that changes the meaning and has no way to this provider."""
    return ProviderCapabilityError(
        f"This provider cannot be asked for {what} ('{param}'). Leave it out or choose another model.",
        param=param,
    )


class _Format(msgspec.Struct):
    type: str


def refuse_what_changes_meaning(fields: Fields) -> None:
    """Let through what is the default anyway, such as no tools or plain text.

    Raises:
        ProviderCapabilityError: for tools, another response format than text, another modality, web search.
        RequestError: if one of these cannot be read.
    """
    for name in ("tools", "functions"):
        if read(fields, name, list[msgspec.Raw]):
            raise cannot(name, "tools")
    for name in ("tool_choice", "function_call"):
        if read(fields, name, Any) not in (None, "none", "auto"):
            raise RequestError(f"'{name}' needs tools to choose from.", param=name)
    response_format = read(fields, "response_format", _Format)
    if response_format is not None and response_format.type != "text":
        raise cannot("response_format", "structured answers")
    if set(read(fields, "modalities", list[str]) or ()) - {"text"}:
        raise cannot("modalities", "anything but text")
    if given(fields, "web_search_options") is not None:
        raise cannot("web_search_options", "web search")


def messages_of(request: ChatRequest) -> list[Message]:
    """The messages, at least one.

    Raises:
        RequestError: if they cannot be read; `param` names the place, such as `messages[2].content`.
        ProviderCapabilityError: if a part of them is of a kind that is not read here.
    """
    raw = given(request.fields, "messages")
    if raw is None:
        raise RequestError("'messages' is missing.", param="messages")
    try:
        messages = request.messages()
    except JSONDecodeError as error:
        raise _misfit(raw) from error
    if not messages:
        raise RequestError("'messages' is empty. Send at least one.", code="empty_array", param="messages")
    return messages


def texts_of(message: Message, place: str) -> list[str]:
    """The texts of a message's content, one per part; none only if an assistant's message has no content.

    Raises:
        RequestError: if there is no content, or a part without its text.
        ProviderCapabilityError: if a part is no text.
    """
    content = message.content
    if isinstance(content, str):
        return [content]
    if content is None:
        if message.role == "assistant":
            return []
        raise RequestError(f"'{place}.content' is missing.", param=f"{place}.content")
    return [_text_of(part, f"{place}.content[{index}]") for index, part in enumerate(content)]


def _text_of(part: Part, place: str) -> str:
    if part.type not in ("text", "refusal"):
        raise cannot(place, f"content of the type '{part.type[:40]}'")
    text = part.text if part.type == "text" else part.refusal
    if text is None:
        raise RequestError(f"'{place}.{part.type}' is missing.", param=f"{place}.{part.type}")
    return text


def unknown_role(message: Message, place: str) -> GatewayError:
    """The error for a message whose role has no place in a provider's conversation."""
    if message.role in ("tool", "function"):
        return cannot(f"{place}.role", "tool results")
    return RequestError(f"'{place}.role' is none of OpenAI's roles.", param=f"{place}.role")


def _misfit(raw: msgspec.Raw) -> GatewayError:
    """Find the place that made the messages unreadable; slow, and only for requests that fail anyway."""
    if not _fits(raw, list[msgspec.Raw]):
        return RequestError("'messages' must be a list of messages.", param="messages")
    for index, item in enumerate(decode_json(raw, list[msgspec.Raw])):
        if not _fits(item, Message):
            return _misfit_in(item, f"messages[{index}]")
    return RequestError("'messages' cannot be read.", param="messages")


def _misfit_in(item: msgspec.Raw, place: str) -> GatewayError:
    if not _fits(item, dict[str, msgspec.Raw]):
        return RequestError(f"'{place}' must be an object.", param=place)
    members = decode_json(item, dict[str, msgspec.Raw])
    for known in msgspec.structs.fields(Message):
        member, at = members.get(known.name), f"{place}.{known.name}"
        if member is None and known.required:
            return RequestError(f"'{at}' is missing.", param=at)
        if member is not None and not _fits(member, known.type):
            return _misfit_at(member, at)
    return RequestError(f"'{place}' cannot be read.", param=place)


def _misfit_at(member: msgspec.Raw, place: str) -> GatewayError:
    parts = decode_json(member, list[msgspec.Raw]) if _fits(member, list[msgspec.Raw]) else []
    for index, part in enumerate(parts):
        if not _fits(part, Part):
            return _misfit_part(part, f"{place}[{index}]")
    return RequestError(f"'{place}' is of a wrong type.", param=place)


def _misfit_part(part: msgspec.Raw, place: str) -> GatewayError:
    if _fits(part, _Format) and (kind := decode_json(part, _Format).type) not in ("text", "refusal"):
        return cannot(place, f"content of the type '{kind[:40]}'")
    return RequestError(f"'{place}' cannot be read.", param=place)


def _fits(raw: msgspec.Raw, shape: object) -> bool:
    try:
        decode_json(raw, shape)
    except JSONDecodeError:
        return False
    return True
