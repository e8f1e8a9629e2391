"""A streamed chat completion as OpenAI's clients want it, whatever the upstream's habits are.

One role, in the first delta of each choice; one id, one `created` and one model for the whole stream; one finish
per choice; usage once, at the end, on a chunk with `choices: []`, and only if it was asked for.
Source: what breaks openai-python 3.x, the Vercel AI SDK 3.x and pydantic-ai, which are strict about these.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mana_llm.schema.chat import ChatChunk, Identity
from mana_llm.schema.errors import GatewayError
from mana_llm.schema.wire import NULL, encode_json

NO_ID: Final = (None, NULL, msgspec.Raw(b'""'))
"""What counts as no id: clients need one to tell answers apart."""
_DONE: Final = b"data: [DONE]\n\n"
_HEAD: Final = ("id", "object", "created", "model")
_OBJECT: Final = "chat.completion.chunk"
# The commonest first: most answers that name a tier name this one.
_TIERS: Final = tuple(
    msgspec.Raw(word) for word in (b'"default"', b"null", b'"auto"', b'"priority"', b'"flex"', b'"scale"', b'"fast"')
)


class ChatStream:
    """Encodes one answer's chunks as server-sent events."""

    media_type = b"text/event-stream; charset=utf-8"

    def __init__(self, resolved: str, identity: Identity, *, include_usage: bool) -> None:
        self._head: dict[str, Any] = {}
        self._opening = b""
        self._resolved = resolved
        self._identity = identity
        self._include_usage = include_usage
        self._usage: Any = None
        self._carried: dict[str, Any] = {}
        self._begun: set[Any] = set()
        self._finished: set[Any] = set()

    def keep_alive(self) -> bytes:
        """A chunk with empty content; the first names the role. Its identity is ours, for the whole stream."""
        if not self._head:
            self._open(self._head_of({}))
        delta = {"content": ""} if 0 in self._begun else {"role": "assistant", "content": ""}
        self._begun.add(0)
        fields: dict[str, Any] = {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        if self._include_usage:
            fields["usage"] = None
        return b"data: %b\n\n" % encode_json(fields)

    def answered_by(self, model: str) -> None:
        """The model's name from now on."""
        self._resolved = model
        if self._head:
            self._open({**self._head, "model": model})

    def encode(self, chunks: Sequence[ChatChunk]) -> bytes:
        """The chunks as events; b"" if none of them says anything to the client."""
        return b"".join([event for chunk in chunks if (event := self._event(chunk))])

    def end(self) -> bytes:
        """The usage chunk if it was asked for and known, and the end marker."""
        if not self._include_usage or self._usage is None:
            return _DONE
        fields = {**self._carried, **self._head, "choices": [], "usage": self._usage}
        if "service_tier" in fields:
            drop_foreign_tier(fields)
        return b"data: %b\n\n%b" % (encode_json(fields), _DONE)

    def fail(self, error: GatewayError) -> bytes:
        """One event that says what broke, and the end marker; no finish is invented."""
        return b"data: %b\n\n%b" % (encode_json(error.body()), _DONE)

    def _event(self, chunk: ChatChunk) -> bytes:
        fields = chunk.fields
        if not self._head:
            self._open(self._head_of(fields))
        if chunk.usage is not None:
            # Assigned, never added: some upstreams say it twice (Groq: on the finish and on a chunk of its own).
            self._usage = chunk.usage
        choices = [choice for choice in chunk.choices if self._tidy(choice)]
        if not choices:
            # Clients crash on `choices: []`; what else the chunk holds travels on the next one.
            self._carried.update(fields)
            return b""
        if self._carried:
            fields = {**self._carried, **fields}
            self._carried = {}
        if "service_tier" in fields:
            drop_foreign_tier(fields)
        for name in _HEAD:
            fields.pop(name, None)
        fields["choices"] = choices
        if self._include_usage:
            fields["usage"] = None
        # What never changes was encoded once; the rest is never empty, so its brace becomes the comma's neighbour.
        return b"data: %b,%b\n\n" % (self._opening, encode_json(fields)[1:])

    def _open(self, head: dict[str, Any]) -> None:
        """What every chunk begins with is encoded once."""
        self._head = head
        self._opening = encode_json(head)[:-1]

    def _head_of(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What stays the same in every chunk: the upstream's id and time if it gave them, else our own."""
        identity = self._identity
        return {
            "id": identity.id if fields.get("id") in NO_ID else fields["id"],
            "object": _OBJECT,
            "created": identity.created if fields.get("created") in (None, NULL) else fields["created"],
            "model": self._resolved,
        }

    def _tidy(self, choice: dict[str, Any]) -> bool:
        """Put one choice into order in place; False if nothing of it is left to say."""
        index = choice["index"]
        delta = choice["delta"]
        if index not in self._begun:
            self._begun.add(index)
            delta.setdefault("content", None if "tool_calls" in delta else "")
            delta["role"] = "assistant"
        else:
            delta.pop("role", None)
        if choice.get("finish_reason") in (None, NULL):
            return True
        if index in self._finished:
            choice["finish_reason"] = None
            return bool(delta)
        self._finished.add(index)
        return True


def drop_foreign_tier(fields: dict[str, Any]) -> None:
    """Take out a `service_tier` that is none of OpenAI's words (`on_demand`, `provisioned`, `standard`).

    Source: pydantic-ai#4895; strict clients refuse the whole answer for it.
    """
    if fields["service_tier"] not in _TIERS:
        del fields["service_tier"]
