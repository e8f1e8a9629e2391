"""Thought signatures on their way through the client and back. Source: docs/sources.md (Gemini).

From Gemini 3 on a replayed function call needs the signature that it came with. It travels as Google's own
OpenAI surface sends it, in `extra_content.google.thought_signature`. Clients that drop what they do not know
are helped twice: by a bounded memory of the calls that passed here, and, where that has forgotten or the call
is another provider's, by the word that Google documents for it.
"""

import re
from typing import Any, Final

import msgspec

from mana_llm.kit.lru import LRU
from mana_llm.schema.chat import Function, ToolCall
from mana_llm.schema.wire import JSONDecodeError, decoder_of

DUMMY: Final = "skip_thought_signature_validator"
"""What stands for a signature that is lost. Source: ai.google.dev, thought signatures, FAQ."""
KEPT_MAX: Final = 2_000
KEPT_CHARS_MAX: Final = 16 * 1024
"""Signatures run to several kB; both limits together bound the memory to 32 MB."""
# Base64, in either alphabet: anything else would be a 400 for the whole conversation. So would two that a client
# joined, which their padding in the middle tells.
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


class _Google(msgspec.Struct):
    thought_signature: str | None = None


class _Extra(msgspec.Struct):
    google: _Google | None = None


_decode_extra: Final = decoder_of(_Extra | None)


class Signatures:
    """Remembers which call came with which signature, by the call's id and the function's name."""

    def __init__(self) -> None:
        self._kept: LRU[str, str] = LRU(KEPT_MAX)

    def keep(self, call_id: str, name: str, signature: str) -> None:
        """Remember a call's signature, unless it is of an absurd size."""
        if len(signature) <= KEPT_CHARS_MAX:
            self._kept.put(_key(call_id, name), signature)

    def of(self, call: ToolCall) -> str | None:
        """The signature that the client sent back with a call, else the remembered one; None if there is none."""
        function = call.function or Function()
        return signature_in(call.extra_content) or self._kept.get(_key(call.id or "", function.name or ""))


def signature_in(extra_content: msgspec.Raw) -> str | None:
    """The signature in an `extra_content`; None if there is none, or nothing that can be one."""
    if not extra_content:
        return None
    try:
        extra: _Extra | None = _decode_extra(extra_content)
    except JSONDecodeError:
        return None
    signature = extra.google.thought_signature if extra and extra.google else None
    return signature if signature and _SIGNATURE.fullmatch(signature) else None


def signed(signature: str) -> dict[str, Any]:
    """The `extra_content` that carries a signature to the client."""
    return {"google": {"thought_signature": signature}}


def _key(call_id: str, name: str) -> str:
    return f"{call_id} {name}"
