"""Reads the top-level fields of OpenAI's chat request, for providers that translate them."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import ProviderCapabilityError, RequestError
from mana_llm.schema.wire import NULL, JSONDecodeError, decode_json

Fields = Mapping[str, msgspec.Raw]
"""The top-level members of a chat request."""

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


def given(fields: Fields, name: str) -> msgspec.Raw | None:
    """The member called `name`; None if it is absent or null, which mean the same in OpenAI's API."""
    raw = fields.get(name)
    return None if raw is None or raw == NULL else raw


def read(fields: Fields, name: str, shape: object) -> Any:
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
    # Most are absent, and asking first takes 2 us off a plain request.
    present = [ours for ours in names if ours in fields]
    return {names[ours][0]: fields[ours] for ours in present if read(fields, ours, names[ours][1]) is not None}


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


def ignored_of(request: ChatRequest, used: frozenset[str], *of_messages: str) -> tuple[str, ...]:
    """The given fields that a provider has no place for, sorted; `used` are those that it has one for.

    `of_messages` are members of messages that it has no place for; one that is given is `messages.name`.
    """
    fields = request.fields
    known = used | _GATEWAYS_OWN | _CHECKED
    ignored = [name for name in fields if name not in known and given(fields, name) is not None]
    messages = request.messages()
    ignored += [f"messages.{name}" for name in of_messages if any(getattr(each, name) for each in messages)]
    return tuple(sorted(ignored))


def cannot(param: str, what: str) -> ProviderCapabilityError:
    """The error for something that changes the meaning and has no way to this provider."""
    return ProviderCapabilityError(
        f"This provider cannot be asked for {what} ('{param}'). Leave it out or choose another model.",
        param=param,
    )


class Typed(msgspec.Struct):
    """Anything of which only the type matters."""

    type: str


def refuse_other_modalities(fields: Fields) -> None:
    """Let through what is the default anyway: text.

    Raises:
        ProviderCapabilityError: for another modality, web search.
        RequestError: if one of these cannot be read.
    """
    if set(read(fields, "modalities", list[str]) or ()) - {"text"}:
        raise cannot("modalities", "anything but text")
    if given(fields, "web_search_options") is not None:
        raise cannot("web_search_options", "web search")
