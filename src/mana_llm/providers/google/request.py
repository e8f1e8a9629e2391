"""Writes OpenAI's chat request as a body for generateContent. Source: docs/sources.md (Gemini)."""

from typing import Any, Final
from urllib.parse import quote

import msgspec

from mana_llm.providers.failures.fields import (
    Fields,
    carried,
    count_of,
    given,
    ignored_of,
    refuse_other_modalities,
    stop_of,
)
from mana_llm.providers.failures.messages import messages_of
from mana_llm.providers.google.conversation import Conversation
from mana_llm.providers.google.generation import bare, is_before
from mana_llm.providers.google.parts import Parts
from mana_llm.providers.google.signatures import Signatures
from mana_llm.providers.google.structured import format_config, is_structured
from mana_llm.providers.google.thinking import thinking_config
from mana_llm.providers.google.tools import calls_none, not_carried, tools_config
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import encode_json

# max_completion_tokens stands after max_tokens, so that it wins. top_k is no field of OpenAI's, but what
# other servers of its API call it.
_CONFIG: Final = {
    "max_tokens": ("maxOutputTokens", int),
    "max_completion_tokens": ("maxOutputTokens", int),
    "temperature": ("temperature", float),
    "top_p": ("topP", float),
    "top_k": ("topK", int),
    "n": ("candidateCount", int),
    "seed": ("seed", int),
    "presence_penalty": ("presencePenalty", float),
    "frequency_penalty": ("frequencyPenalty", float),
    "logprobs": ("responseLogprobs", bool),
    "top_logprobs": ("logprobs", int),
}
_REASONING: Final = frozenset({"reasoning_effort", "reasoning"})
_TRUE: Final = msgspec.Raw(b"true")
_USED: Final = frozenset({*_CONFIG, "stop"})


def target_of(model: str, verb: str) -> str:
    """Path that asks `model` to do `verb`; one that a caller wrote `models/...` is the same as without."""
    named = bare(model)
    kind = "models/"
    if named.startswith("tunedModels/"):
        kind, named = "tunedModels/", named.removeprefix("tunedModels/")
    return f"/v1beta/{kind}{quote(named, safe='', errors='replace')}:{verb}"


def encode_body(request: ChatRequest, model: str, signatures: Signatures) -> tuple[bytes, tuple[str, ...]]:
    """The body, and what it could not carry. Raises as `Google.encode_chat`."""
    fields = request.fields
    refuse_other_modalities(fields)
    parts = Parts(request.fetched)
    conversation = Conversation(model, parts, signatures)
    for index, message in enumerate(messages_of(request)):
        conversation.add(message, f"messages[{index}]")
    tools = _tools(fields, model)
    body = {**conversation.body(), **tools}
    if config := _config(fields, model, has_tools=bool(tools)):
        body["generationConfig"] = config
    return encode_json(body), _ignored(request, model, parts)


def _tools(fields: Fields, model: str) -> dict[str, Any]:
    tools = tools_config(fields, model)
    # Models before 3 refuse tools where JSON is asked for; those that none may call can as well stay here.
    if calls_none(tools) and is_structured(fields) and is_before(model, (3, 0)):
        return {}
    return tools


def _config(fields: Fields, model: str, *, has_tools: bool) -> dict[str, Any]:
    count_of(fields)
    config: dict[str, Any] = dict(carried(fields, _CONFIG))
    if stop := stop_of(fields):
        config["stopSequences"] = stop
    config.update(format_config(fields, model, has_tools=has_tools))
    if thinking := thinking_config(fields, model):
        config["thinkingConfig"] = thinking
    return config


def _ignored(request: ChatRequest, model: str, parts: Parts) -> tuple[str, ...]:
    """The given fields that change nothing essential and have no place here, sorted."""
    fields = request.fields
    used = _USED | _REASONING if thinking_config(fields, model) is not None else _USED
    if given(fields, "parallel_tool_calls") == _TRUE:
        # Several calls at once are what Gemini does anyway.
        used |= {"parallel_tool_calls"}
    ignored = [*ignored_of(request, used, "name", "reasoning_content", "reasoning"), *not_carried(fields)]
    if parts.details_ignored:
        ignored.append("messages.content.image_url.detail")
    return tuple(sorted(ignored))
