"""Writes OpenAI's chat request as a body for /api/chat. Source: docs/sources.md (Ollama)."""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import (
    Fields,
    cannot,
    carried,
    count_of,
    ignored_of,
    read,
    refuse_other_modalities,
    stop_of,
)
from mana_llm.providers.ollama.images import asks_for_detail
from mana_llm.providers.ollama.messages import conversation_of
from mana_llm.providers.ollama.schemas import enumerated
from mana_llm.providers.ollama.tools import not_carried, tools_of
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import GatewayError, RequestError
from mana_llm.schema.wire import NULL, encode_json

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
# Takes levels only, and thinks at the least of them. Source: docs/sources.md (Ollama).
_LEVELS_ONLY: Final = "gpt-oss"
_USED: Final = frozenset({*_OPTIONS, *_TOP_LEVEL, "stop", "n", "reasoning_effort", "parallel_tool_calls"})


class _Schema(msgspec.Struct):
    schema: msgspec.Raw = msgspec.Raw()
    description: str | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


def encode_body(request: ChatRequest, model: str) -> bytes:
    """The body. Raises as `Ollama.encode_chat`."""
    fields = request.fields
    refuse_other_modalities(fields)
    if count_of(fields) > 1:
        raise cannot("n", "several choices")
    body: dict[str, Any] = {"model": model, "messages": conversation_of(request), "stream": request.stream}
    if tools := tools_of(fields):
        body["tools"] = tools
    if options := _options(fields):
        body["options"] = options
    body |= carried(fields, _TOP_LEVEL)
    wanted = _format(fields)
    if wanted is not None:
        body["format"] = wanted
    think = _think(fields, model)
    if think is not None:
        body["think"] = think
    return encode_json(body)


def ignored_fields(request: ChatRequest, model: str) -> tuple[str, ...]:
    """What was given, changes nothing essential and has no place here, sorted; the request must be encodable."""
    fields = request.fields
    more = not_carried(fields)
    # There, a result is named after its function, so the name of a tool's message says nothing new.
    if any(message.name and message.role not in ("tool", "function") for message in request.messages()):
        more.append("messages.name")
    if asks_for_detail(request.messages()):
        more.append("messages.content.image_url.detail")
    wanted = read(fields, "response_format", _Format)
    if wanted is not None and wanted.json_schema is not None and wanted.json_schema.description:
        more.append("response_format.json_schema.description")
    if read(fields, "reasoning_effort", str) == "none" and _takes_levels_only(model):
        more.append("reasoning_effort")
    return tuple(sorted((*ignored_of(request, _USED), *more)))


def wants_structure(fields: Fields) -> bool:
    """Whether the answer is to be JSON; False where that cannot be read."""
    try:
        return _format(fields) is not None
    except GatewayError:
        return False


def _options(fields: Fields) -> dict[str, Any]:
    options: dict[str, Any] = dict(carried(fields, _OPTIONS))
    if stop := stop_of(fields):
        options["stop"] = stop
    return options


def _format(fields: Fields) -> msgspec.Raw | dict[str, Any] | str | None:
    """The schema: the grammar that is made of it knows `$ref` and the rest, but no `const`. None for plain text."""
    wanted: _Format | None = read(fields, "response_format", _Format)
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return "json"
    if wanted.type != "json_schema":
        raise cannot("response_format", f"answers of the type '{wanted.type[:40]}'")
    place = "response_format.json_schema"
    if wanted.json_schema is None:
        raise RequestError(f"'{place}' is missing.", param=place)
    schema = wanted.json_schema.schema
    if not schema or schema == NULL:
        # OpenAI's specification lets it be absent: any JSON will do.
        return "json"
    return enumerated(schema, f"{place}.schema")


def _think(fields: Fields, model: str) -> bool | str | None:
    effort = read(fields, "reasoning_effort", str)
    if effort is None:
        return None
    if effort not in _THINK:
        raise RequestError(f"'reasoning_effort' must be one of {', '.join(_THINK)}.", param="reasoning_effort")
    return "low" if effort == "none" and _takes_levels_only(model) else _THINK[effort]


def _takes_levels_only(model: str) -> bool:
    return model.rpartition("/")[2].startswith(_LEVELS_ONLY)
