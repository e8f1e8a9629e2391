"""Reads the messages of OpenAI's chat request, and says which place of them is wrong."""

import msgspec

from mana_llm.providers.failures.fields import Typed, cannot, given
from mana_llm.schema.chat import ChatRequest, Message, Part
from mana_llm.schema.errors import GatewayError, RequestError
from mana_llm.schema.wire import JSONDecodeError, decode_json


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
    if _fits(part, Typed) and (kind := decode_json(part, Typed).type) not in ("text", "refusal"):
        return cannot(place, f"content of the type '{kind[:40]}'")
    return RequestError(f"'{place}' cannot be read.", param=place)


def _fits(raw: msgspec.Raw, shape: object) -> bool:
    try:
        decode_json(raw, shape)
    except JSONDecodeError:
        return False
    return True
