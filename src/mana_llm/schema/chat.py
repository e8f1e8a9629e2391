"""The chat schema, which is OpenAI's: requests, whole answers, and the chunks of a stream.

Members that nobody needs to look at stay `msgspec.Raw`: bytes that pass from one side to the other unharmed.
"""

from typing import Any

import msgspec

from mana_llm.schema.usage import Usage
from mana_llm.schema.wire import decode_json


class Function(msgspec.Struct):
    """The function of a tool call; `arguments` is a JSON text, never an object."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    """A call that an assistant message made; `extra_content` is what a provider wants back with it."""

    id: str | None = None
    type: str = "function"
    function: Function | None = None
    extra_content: msgspec.Raw = msgspec.Raw()


class Part(msgspec.Struct):
    """One part of a message's content: `text` where the type is `text`.

    Other members stay as they came, empty if they are absent.
    """

    type: str = "text"
    text: str | None = None
    image_url: msgspec.Raw = msgspec.Raw()
    input_audio: msgspec.Raw = msgspec.Raw()
    file: msgspec.Raw = msgspec.Raw()
    refusal: str | None = None
    video_url: msgspec.Raw = msgspec.Raw()


class Message(msgspec.Struct):
    """One message of a request, read by the providers that translate it; `function_call` is the old tool call."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    function_call: Function | None = None
    extra_content: msgspec.Raw = msgspec.Raw()
    refusal: str | None = None

    @property
    def thoughts(self) -> str | None:
        """The reasoning that the message carries, in either spelling."""
        return self.reasoning_content or self.reasoning


class Fetched(msgspec.Struct, frozen=True):
    """A part that was fetched: its media type as its first bytes tell it, and the bytes."""

    media_type: str
    data: bytes


class ChatRequest(msgspec.Struct):
    """What a client asked for. It is never changed: every attempt builds its own body from it.

    `fields` holds every top-level member in order. `model` is "" when none was named. `include_usage` is the
    client's own `stream_options.include_usage`. `fetched` holds the parts that the gateway fetched for providers
    that cannot, by their URL.
    """

    fields: dict[str, msgspec.Raw]
    model: str
    stream: bool
    include_usage: bool
    fetched: dict[str, Fetched] = {}
    _messages: list[Message] | None = None

    def messages(self) -> list[Message]:
        """The messages, decoded once and only for those who must look inside.

        Raises:
            JSONDecodeError: if they are not a list of messages.
        """
        if self._messages is None:
            self._messages = decode_json(self.fields["messages"], list[Message])
        return self._messages

    def __repr__(self) -> str:
        # The fields hold prompt text, which stays out of tracebacks and logs.
        return f"<ChatRequest {self.model!r} stream={self.stream}>"


class ChatCompletion(msgspec.Struct):
    """A whole answer: `fields` is the body in OpenAI's shape, members as Raw or as plain values.

    `usage` is read for the accounts; what the client sees of it is in `fields`. `prompt_cut` says that the
    provider dropped a part of the prompt without an error.
    """

    fields: dict[str, Any]
    usage: Usage | None = None
    prompt_cut: bool = False

    def __repr__(self) -> str:
        return f"<ChatCompletion usage={self.usage}>"


class ChatChunk(msgspec.Struct):
    """One piece of a streamed answer.

    `fields` holds the members around `choices` and `usage`. Each choice is
    `{"index": ..., "delta": {...}, "finish_reason": ...}`, members as Raw or plain values, `delta` always a
    dict of its own. `usage` is a Raw or a Usage, None if the chunk has none. `has_content` says that a delta
    carries text, reasoning, a refusal, a tool call or media; `finished` that a choice ended.
    """

    fields: dict[str, Any]
    choices: list[dict[str, Any]]
    usage: Any = None
    has_content: bool = False
    finished: bool = False

    def __repr__(self) -> str:
        return f"<ChatChunk content={self.has_content} finished={self.finished}>"


class Identity(msgspec.Struct, frozen=True):
    """What the gateway calls an answer where the provider gave no `id` or `created` (Unix seconds)."""

    id: str
    created: int
