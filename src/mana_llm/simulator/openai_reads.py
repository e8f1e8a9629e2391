"""Reading OpenAI chat requests, and refusing what the real servers refuse.

Source: docs/sources.md (OpenAI and its kin); codes as recorded.
"""

from __future__ import annotations

from typing import Any, Final

from mana_llm.simulator import models
from mana_llm.simulator.flavours import Flavour
from mana_llm.simulator.openai_errors import Problem, refusal
from mana_llm.simulator.reply import RefusedError
from mana_llm.simulator.script import Json
from mana_llm.simulator.texts import Asked, Tool

REASONING_ONLY: Final = ("o1", "o3", "o4", "gpt-5")
ROLES: Final = frozenset({"developer", "system", "user", "assistant", "tool", "function"})


def refuse(flavour: Flavour, message: str, code: str | None = None, param: str | None = None) -> RefusedError:
    """A 400 to raise."""
    return RefusedError(refusal(flavour, 400, Problem(message, code=code, param=param)))


def known(flavour: Flavour, model: object) -> str:
    """The model's name. Raises: RefusedError when it is missing or the upstream has no such model."""
    if not isinstance(model, str) or not model:
        raise refuse(flavour, "you must provide a model parameter")
    if not models.unknown(model):
        return model
    if flavour.error == "openrouter":
        raise refuse(flavour, f"{model} is not a valid model ID")
    message = f"The model `{model}` does not exist or you do not have access to it."
    raise RefusedError(refusal(flavour, 404, Problem(message, code="model_not_found")))


def asked(flavour: Flavour, body: Json) -> Asked:
    """The chat request in the simulator's words. Raises: RefusedError where the real server refuses."""
    model = known(flavour, body.get("model"))
    messages = _messages(flavour, body.get("messages"))
    _check_fields(flavour, model, body)
    texts = [text_of(message.get("content")) for message in messages]
    roles = [message["role"] for message in messages]
    spoken = [text for text, role in zip(texts, roles, strict=True) if role in ("user", "tool")]
    choice = body.get("tool_choice")
    tools = () if choice == "none" else _tools(body.get("tools") or [], choice)
    return Asked(
        model=model,
        said=spoken[-1] if spoken else "",
        prompt_characters=sum(map(len, texts)),
        stream=bool(body.get("stream")),
        tools=tools,
        must_call=choice == "required" or isinstance(choice, dict),
        answered=roles[-1] in ("tool", "function"),
        thinks=bool(flavour.reasoning_field) and models.thinks(model) and not model.startswith("sim"),
        ceiling_tokens=_ceiling(body),
        schema=_schema(body.get("response_format")),
        count=int(body.get("n") or 1),
    )


def text_of(content: Any) -> str:
    """The text of a message's content, whole or in parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _messages(flavour: Flavour, messages: object) -> list[Json]:
    if messages is None:
        missing = "Missing required parameter: 'messages'."
        raise refuse(flavour, missing, "missing_required_parameter", "messages")
    if not isinstance(messages, list):
        raise refuse(flavour, "Invalid type for 'messages'.", "invalid_type", "messages")
    if not messages:
        raise refuse(flavour, "Invalid 'messages': empty array.", "empty_array", "messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            param = f"messages[{index}].role"
            raise refuse(flavour, f"Invalid value for '{param}'.", "invalid_value", param)
        if flavour.members and (unknown := set(message) - flavour.members):
            raise refuse(flavour, f"'messages.{index}' : property '{min(unknown)}' is unsupported")
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            if call.get("type", "function") == "function" and not isinstance(function.get("arguments"), str):
                param = f"messages[{index}].tool_calls[0].function.arguments"
                wrong = f"Invalid type for '{param}': expected a string."
                raise refuse(flavour, wrong, "invalid_type", param)
    return messages


def _check_fields(flavour: Flavour, model: str, body: Json) -> None:
    if body.get("stream_options") is not None and not body.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise refuse(flavour, message, None, "stream_options")
    if model.startswith(REASONING_ONLY) and body.get("max_tokens") is not None:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model."
        raise refuse(flavour, message, "unsupported_parameter", "max_tokens")
    if (temperature := body.get("temperature")) is not None and not 0 <= temperature <= 2:
        code = "decimal_above_max_value" if temperature > 2 else "decimal_below_min_value"
        raise refuse(flavour, "Invalid 'temperature': it must lie between 0 and 2.", code, "temperature")
    for name in flavour.refused:
        if body.get(name):
            raise refuse(flavour, f"`{name}` is not supported with this model", None, name)
    if "logprobs" in flavour.refused and (body.get("n") or 1) != 1:
        raise refuse(flavour, "'n' : number must be at most 1", None, "n")


def _tools(tools: list[Json], choice: object) -> tuple[Tool, ...]:
    functions = [tool["function"] for tool in tools if isinstance(tool.get("function"), dict)]
    found = tuple(Tool(str(one.get("name")), one.get("parameters") or {}) for one in functions)
    named = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    return tuple(tool for tool in found if tool.name == named) if named else found


def _ceiling(body: Json) -> int | None:
    ceiling = body.get("max_completion_tokens") or body.get("max_tokens")
    return ceiling if isinstance(ceiling, int) else None


def _schema(wanted: object) -> Json | None:
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return None
    schema = (wanted.get("json_schema") or {}).get("schema")
    return schema or {"type": "object", "properties": {"simulated": {"type": "boolean"}}}
