"""Writes OpenAI's chat request as a body for /api/chat. Source: DIALECTS 2.1 and 2.2."""

from typing import Any, Final

from mana_llm.providers.failures.fields import (
    Fields,
    cannot,
    carried,
    count_of,
    ignored_of,
    read,
    refuse_what_changes_meaning,
    stop_of,
)
from mana_llm.providers.failures.messages import messages_of, texts_of, unknown_role
from mana_llm.schema.chat import ChatRequest, Message
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import encode_json

# max_completion_tokens stands after max_tokens, so that it wins. top_k and min_p are no fields of OpenAI's,
# but what other servers of its API call them.
_OPTIONS: Final = {
    "max_tokens": ("num_predict", int),
    "max_completion_tokens": ("num_predict", int),
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
    "top_k": ("top_k", int),
    "min_p": ("min_p", float),
    "seed": ("seed", int),
    "presence_penalty": ("presence_penalty", float),
    "frequency_penalty": ("frequency_penalty", float),
}
_TOP_LEVEL: Final = {"logprobs": ("logprobs", bool), "top_logprobs": ("top_logprobs", int)}
# Source: ollama/ollama openai/openai.go, the mapping of Ollama's own /v1.
_THINK: Final[dict[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_USED: Final = frozenset({*_OPTIONS, *_TOP_LEVEL, "stop", "n", "reasoning_effort"})


def encode_body(request: ChatRequest, model: str) -> bytes:
    """The body. Raises as `Ollama.encode_chat`."""
    fields = request.fields
    refuse_what_changes_meaning(fields)
    if count_of(fields) > 1:
        raise cannot("n", "several choices")
    body: dict[str, Any] = {"model": model, "messages": _messages(request), "stream": request.stream}
    if options := _options(fields):
        body["options"] = options
    body |= carried(fields, _TOP_LEVEL)
    think = _think(fields)
    if think is not None:
        body["think"] = think
    return encode_json(body)


def ignored_fields(request: ChatRequest) -> tuple[str, ...]:
    """The given fields that change nothing essential and have no place here, sorted."""
    return ignored_of(request, _USED, "name")


def _options(fields: Fields) -> dict[str, Any]:
    options: dict[str, Any] = dict(carried(fields, _OPTIONS))
    if stop := stop_of(fields):
        options["stop"] = stop
    return options


def _think(fields: Fields) -> bool | str | None:
    effort = read(fields, "reasoning_effort", str)
    if effort is None:
        return None
    if effort not in _THINK:
        raise RequestError(f"'reasoning_effort' must be one of {', '.join(_THINK)}.", param="reasoning_effort")
    return _THINK[effort]


def _messages(request: ChatRequest) -> list[dict[str, Any]]:
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages_of(request))]


def _message(message: Message, place: str) -> dict[str, Any]:
    role = _ROLES.get(message.role)
    if role is None:
        raise unknown_role(message, place)
    if message.tool_calls:
        raise cannot(f"{place}.tool_calls", "tool calls of earlier turns")
    # Content is one string there; the parts of ours are lines of it, as they would be in a prompt.
    written: dict[str, Any] = {"role": role, "content": "\n".join(texts_of(message, place))}
    if role == "assistant" and message.reasoning_content:
        written["thinking"] = message.reasoning_content
    return written
