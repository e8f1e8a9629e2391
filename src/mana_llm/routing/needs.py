"""What a request needs of a model, in the catalogue's words; read from the bytes, without decoding the messages."""

from typing import Final

from mana_llm.routing.attempt import Request
from mana_llm.schema.chat import ChatRequest

_ABSENT: Final = (b"", b"null", b"[]", b"{}")
_PARTS: Final = ((b'"image_url"', "vision"), (b'"input_audio"', "audio"))


def needs_of(request: Request) -> tuple[str, ...]:
    """Of `tools`, `structured_output`, `vision` and `audio`, those without which the request means something else.

    A text that only quotes the name of a part is taken for one: then an entry is passed by that would have done.
    """
    if not isinstance(request, ChatRequest):
        return ()
    fields = request.fields
    needs = ["tools"] if bytes(fields.get("tools", b"")).strip() not in _ABSENT else []
    if b'"json_schema"' in bytes(fields.get("response_format", b"")):
        needs.append("structured_output")
    messages = bytes(fields.get("messages", b""))
    return (*needs, *(need for part, need in _PARTS if part in messages))
