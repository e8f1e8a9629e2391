"""Writes OpenAI's chat request as a body for generateContent. Source: DIALECTS 3.1 to 3.3.

Gemini knows two roles, and a system instruction beside the conversation: system and developer messages go
there in their order, wherever they stood. Neighbours of one role become one turn. A conversation that begins
with the assistant is sent as it is: Gemini asks for a user's turn first, but to invent one would put words in
a mouth.
"""

from typing import Any, Final
from urllib.parse import quote

from mana_llm.providers.failures.fields import (
    Fields,
    cannot,
    carried,
    count_of,
    given,
    ignored_of,
    refuse_what_changes_meaning,
    stop_of,
)
from mana_llm.providers.failures.messages import messages_of, texts_of, unknown_role
from mana_llm.providers.google.thinking import thinking_config
from mana_llm.schema.chat import ChatRequest, Message
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
_ROLES: Final = {"user": "user", "assistant": "model"}
_USED: Final = frozenset({*_CONFIG, "stop", "reasoning_effort"})


def target_of(model: str, *, stream: bool) -> str:
    """Path and query that ask `model`; one that a caller wrote `models/...` is the same as without."""
    named = model.removeprefix("models/")
    kind = "models/"
    if named.startswith("tunedModels/"):
        kind, named = "tunedModels/", named.removeprefix("tunedModels/")
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/{kind}{quote(named, safe='', errors='replace')}:{verb}"


def encode_body(request: ChatRequest, model: str) -> bytes:
    """The body. Raises as `Google.encode_chat`."""
    fields = request.fields
    refuse_what_changes_meaning(fields)
    body = _conversation(messages_of(request))
    if config := _config(fields, model):
        body["generationConfig"] = config
    return encode_json(body)


def ignored_fields(request: ChatRequest, model: str) -> tuple[str, ...]:
    """The given fields that change nothing essential and have no place here, sorted."""
    fields = request.fields
    thinks = given(fields, "reasoning_effort") is None or thinking_config(fields, model) is not None
    used = _USED if thinks else _USED - {"reasoning_effort"}
    return ignored_of(request, used, "name", "reasoning_content")


def _config(fields: Fields, model: str) -> dict[str, Any]:
    count_of(fields)
    config: dict[str, Any] = dict(carried(fields, _CONFIG))
    if stop := stop_of(fields):
        config["stopSequences"] = stop
    if thinking := thinking_config(fields, model):
        config["thinkingConfig"] = thinking
    return config


def _conversation(messages: list[Message]) -> dict[str, Any]:
    instructions: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        parts = _parts(message, f"messages[{index}]")
        if message.role in ("system", "developer"):
            instructions += parts
        elif parts:
            _add_turn(contents, _ROLES[message.role], parts)
    if not contents:
        raise cannot("messages", "an answer to instructions alone; it needs a user's message")
    body: dict[str, Any] = {"contents": contents}
    if instructions:
        body["systemInstruction"] = {"parts": instructions}
    return body


def _add_turn(contents: list[dict[str, Any]], role: str, parts: list[dict[str, Any]]) -> None:
    if contents and contents[-1]["role"] == role:
        contents[-1]["parts"] += parts
    else:
        contents.append({"role": role, "parts": parts})


def _parts(message: Message, place: str) -> list[dict[str, Any]]:
    if message.role not in ("system", "developer", *_ROLES):
        raise unknown_role(message, place)
    if message.tool_calls:
        raise cannot(f"{place}.tool_calls", "tool calls of earlier turns")
    # An assistant's turn may be empty (a refusal, an answer that was cut); Gemini wants no part without text
    # there.
    return [{"text": text} for text in texts_of(message, place) if text or message.role != "assistant"]
