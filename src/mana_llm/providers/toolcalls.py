"""What the providers whose calls are not OpenAI's share: ids where there are none, and arguments as a text."""

from hashlib import sha256
from typing import Any, Final

import msgspec

from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.wire import JSONDecodeError, decode_json

_OURS: Final = "call_mana_"


def synthesised_id(seed: str) -> str:
    """An id for a call that has none: the same for the same seed, since nothing here is random."""
    return f"{_OURS}{sha256(seed.encode(errors='replace')).hexdigest()[:24]}"


def is_synthesised(call_id: str) -> bool:
    """Whether `synthesised_id` made it, so that no provider knows it."""
    return call_id.startswith(_OURS)


def arguments_text(raw: msgspec.Raw) -> str:
    """The arguments of a call as a JSON text without spaces, numbers as they came; null is no arguments.

    Some servers give a string that holds the object: it is taken as it is.

    Raises:
        ProviderProtocolError: if they are no JSON object.
    """
    try:
        value = decode_json(raw, dict[str, Any] | str | None)
        if isinstance(value, str):
            decode_json(value.encode(), dict[str, Any])
            return value
    except JSONDecodeError as error:
        raise ProviderProtocolError(f"The arguments of a tool call cannot be read: {error}.") from error
    return "{}" if value is None else msgspec.json.format(bytes(raw), indent=-1).decode()
