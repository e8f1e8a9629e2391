"""Reads what /api/chat answers, whole or line by line, into OpenAI's shape. Source: docs/sources.md (Ollama).

Ollama says `done_reason: "stop"` after tool calls too, gives arguments as objects, and older servers give
calls no ids. All three are mended here, in the same place for whole answers and for streams.
"""

from datetime import datetime
from typing import Any, Final

import msgspec

from mana_llm.kit.fences import FenceStripper
from mana_llm.providers.ollama.errors import error_in
from mana_llm.providers.toolcalls import arguments_text, synthesised_id
from mana_llm.schema.chat import ChatCompletion
from mana_llm.schema.errors import ProviderProtocolError, ProviderTruncatedError
from mana_llm.schema.usage import Usage, usage_of
from mana_llm.schema.wire import JSONDecodeError, decode_json

_NOTHING: Final = msgspec.Raw(b"{}")


class CalledFunction(msgspec.Struct):
    """What a call names; `arguments` is an object, on some servers a string that holds one."""

    name: str | None = None
    arguments: msgspec.Raw = _NOTHING


class Called(msgspec.Struct):
    """A tool call; older servers send no id. Source: 5 of 36 recorded."""

    id: str | None = None
    function: CalledFunction | None = None


class Said(msgspec.Struct):
    """The message of an answer or of one line of it."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Called] | None = None


_NOBODY: Final = Said()


class Answer(msgspec.Struct):
    """A whole answer, or one line of a streamed one. `error` is empty bytes if there is none.

    `prompt_eval_count` includes what was cached, `prompt_eval_cached_count`. Source: Ollama 0.33.3.
    """

    model: str | None = None
    created_at: str | None = None
    message: Said | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    eval_count: int | None = None
    logprobs: list[dict[str, Any]] | None = None
    error: msgspec.Raw = msgspec.Raw()


class Progress:
    """What is known of an answer so far: its head, its calls, and whether it has content.

    `fences` takes the fences off a structured answer, None where the answer is text.
    """

    def __init__(self, fences: FenceStripper | None = None) -> None:
        self._fences = fences
        self.head: dict[str, Any] = {}
        self.has_content = False
        self.has_calls = False
        self._spoke = False
        self._seed = ""
        self._ids: set[str] = set()

    def begin(self, answer: Answer, kind: str) -> None:
        """Take the head from the first line; the others have other times, and a client wants one."""
        self.head = {"object": kind, "model": answer.model or ""}
        self._seed = f"{answer.created_at} {answer.model}"
        created = unix_time(answer.created_at)
        if created:
            self.head["created"] = created

    def delta_of(self, answer: Answer) -> dict[str, Any]:
        """What a line adds, as a delta; empty if it adds nothing.

        Raises:
            ProviderProtocolError: if the arguments of a call are no JSON object.
        """
        said = answer.message or _NOBODY
        self._spoke = self._spoke or answer.message is not None
        delta: dict[str, Any] = {}
        content = self._content_of(said, last=bool(answer.done))
        if content:
            delta["content"] = content
        if said.thinking:
            delta["reasoning_content"] = said.thinking
        if said.tool_calls:
            delta["tool_calls"] = [self._call_of(called) for called in said.tool_calls]
            self.has_calls = True
        self.has_content = self.has_content or bool(delta)
        return delta

    def _content_of(self, said: Said, *, last: bool) -> str:
        content = said.content or ""
        if self._fences is None:
            return content
        content = self._fences.feed(content)
        return content + self._fences.end() if last else content

    def _call_of(self, called: Called) -> dict[str, Any]:
        index = len(self._ids)
        function = called.function or CalledFunction()
        arguments = arguments_text(function.arguments)
        call_id = called.id
        if not call_id or call_id in self._ids:
            call_id = synthesised_id(f"{self._seed} {index} {function.name} {arguments}")
        self._ids.add(call_id)
        named = {"name": function.name or "", "arguments": arguments}
        return {"index": index, "id": call_id, "type": "function", "function": named}

    def finish_reason(self, answer: Answer) -> str:
        """The finish of a done answer.

        Raises:
            ProviderTruncatedError: if the ceiling was reached before any content.
            ProviderProtocolError: if no line had a message; an empty one is an empty answer.
        """
        if not self._spoke:
            raise ProviderProtocolError("Ollama's answer has no message.")
        if answer.done_reason == "length":
            if not self.has_content:
                raise ProviderTruncatedError("The token ceiling was reached before any content. Raise max_tokens.")
            return "length"
        return "tool_calls" if self.has_calls else "stop"


def decode_completion(answer: Answer, fences: FenceStripper | None) -> ChatCompletion:
    """The whole answer; `fences` is as in `Progress`.

    Raises:
        ProviderProtocolError: if the body is no whole answer.
        ProviderTruncatedError: if the ceiling was reached before any content.
    """
    if not answer.done:
        raise ProviderProtocolError("Ollama's answer is not done.")
    progress = Progress(fences)
    progress.begin(answer, "chat.completion")
    delta = progress.delta_of(answer)
    choice = {
        "index": 0,
        "message": _message_of(delta),
        "logprobs": logprobs_of(answer),
        "finish_reason": progress.finish_reason(answer),
    }
    usage = usage_in(answer)
    fields = {**progress.head, "choices": [choice]}
    if usage is not None:
        fields["usage"] = usage
    return ChatCompletion(fields, usage)


def read_answer(data: bytes) -> Answer:
    """One object of an answer.

    Raises:
        ProviderProtocolError: if it is none.
        ProviderServerError: if it is an error.
    """
    try:
        answer: Answer = decode_json(data, Answer)
    except JSONDecodeError as error:
        raise ProviderProtocolError(f"Ollama's answer cannot be read: {error}.") from error
    if answer.error:
        raise error_in(answer.error)
    return answer


def usage_in(answer: Answer) -> Usage | None:
    """The counts of a done answer. The server leaves out what is 0; if both are missing, it said nothing."""
    if answer.prompt_eval_count is None and answer.eval_count is None:
        return None
    cached = answer.prompt_eval_cached_count
    return usage_of(
        max(answer.prompt_eval_count or 0, 0),
        max(answer.eval_count or 0, 0),
        None if cached is None else max(cached, 0),
    )


def logprobs_of(answer: Answer) -> dict[str, Any] | None:
    """Log probabilities in OpenAI's shape, which is Ollama's with every member present."""
    if not answer.logprobs:
        return None
    rows = [{"bytes": None, "top_logprobs": [], **row} for row in answer.logprobs]
    return {"content": rows, "refusal": None}


def unix_time(created_at: str | None) -> int:
    """An RFC 3339 instant, nanoseconds or not, as Unix time; 0 if it is none."""
    try:
        instant = datetime.fromisoformat(created_at or "")
        # Without an offset, timestamp() would ask the machine's own time zone.
        return 0 if instant.tzinfo is None else max(0, int(instant.timestamp()))
    except (ValueError, OverflowError):
        return 0


def _message_of(delta: dict[str, Any]) -> dict[str, Any]:
    content = delta.get("content")
    message = {"role": "assistant", "content": content, "refusal": None}
    if content is None and "tool_calls" not in delta:
        message["content"] = ""
    if "reasoning_content" in delta:
        message["reasoning_content"] = delta["reasoning_content"]
    if "tool_calls" in delta:
        # Only the calls of a stream carry an index.
        calls = delta["tool_calls"]
        message["tool_calls"] = [{name: call[name] for name in ("id", "type", "function")} for call in calls]
    return message
