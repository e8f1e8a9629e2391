"""Reading Gemini requests, and refusing what the proto decoder and the service refuse.

Source: docs/sources.md (Gemini).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mana_llm.simulator.reply import RefusedError, whole
from mana_llm.simulator.script import Json
from mana_llm.simulator.texts import Asked, Tool
from mana_llm.simulator.voice import Call

_TOP: Final = frozenset(
    {
        "contents", "systemInstruction", "tools", "toolConfig", "safetySettings",
        "generationConfig", "cachedContent", "model", "serviceTier", "store",
    }
)  # fmt: skip
_CONFIG: Final = frozenset(
    {
        "temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences", "seed",
        "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs", "responseMimeType",
        "responseSchema", "responseJsonSchema", "responseModalities", "mediaResolution",
        "speechConfig", "thinkingConfig", "enableEnhancedCivicAnswers", "imageConfig",
        "responseFormat", "translationConfig",
    }
)  # fmt: skip
_PART: Final = frozenset(
    {
        "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
        "codeExecutionResult", "toolCall", "toolResponse", "thought", "thoughtSignature",
        "videoMetadata", "mediaResolution", "partMetadata",
    }
)  # fmt: skip
_JSON_TYPE: Final = "application/json"
# These answer 400 to JSON together with functions, whether they may be called or not.
_BEFORE_3: Final = ("gemini-1", "gemini-2")
_SNAKE: Final = re.compile(r"_([a-z0-9])")


def error_body(code: int, status: str, message: str, details: Iterable[Json] = ()) -> Json:
    """Google's error object."""
    error: Json = {"code": code, "message": message, "status": status}
    listed = list(details)
    return {"error": error | {"details": listed} if listed else error}


def refuse(message: str, field: str = "") -> RefusedError:
    """A 400 INVALID_ARGUMENT to raise."""
    violations = [{"field": field, "description": message}] if field else [{"description": message}]
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
    return RefusedError(whole(400, error_body(400, "INVALID_ARGUMENT", message, details)))


def camel(name: str) -> str:
    """The camelCase spelling of a name; proto JSON takes both."""
    return _SNAKE.sub(lambda match: match[1].upper(), name)


def content_text(content: object) -> str:
    """The text of a content's parts, function responses included."""
    parts = content.get("parts") if isinstance(content, dict) else None
    texts = []
    for part in parts or ():
        response = part.get("functionResponse") or part.get("function_response")
        texts.append(str(response.get("response", "")) if response else str(part.get("text") or ""))
    return " ".join(texts)


def asked(call: Call) -> Asked:
    """The request in the simulator's words. Raises: RefusedError where Google refuses."""
    body = _checked(call.body, _TOP, "")
    config = _checked(body.get("generationConfig") or {}, _CONFIG, "generation_config")
    contents = _contents(call, body.get("contents"))
    calling = _calling(body)
    thinking = config.get("thinkingConfig") or {}
    tools = () if calling.get("mode") == "NONE" else _tools(body.get("tools") or [])
    if call.model.startswith(_BEFORE_3) and body.get("tools") and config.get("responseMimeType") == _JSON_TYPE:
        raise refuse(f"Function calling with a response mime type: '{_JSON_TYPE}' is unsupported")
    allowed = calling.get("allowedFunctionNames")
    texts = [content_text(content) for content in contents]
    system = content_text(body.get("systemInstruction"))
    spoken = [text for text, one in zip(texts, contents, strict=True) if one.get("role", "user") == "user"]
    last = contents[-1].get("parts") or [{}]
    return Asked(
        model=call.model,
        said=spoken[-1] if spoken else "",
        prompt_characters=len(system) + sum(map(len, texts)),
        stream=call.operation == "streamGenerateContent",
        tools=tuple(tool for tool in tools if not allowed or tool.name in allowed),
        must_call=calling.get("mode") == "ANY",
        answered=any(camel(name) == "functionResponse" for part in last for name in part),
        thinks=call.model.startswith("gemini") and thinking.get("thinkingBudget") != 0,
        ceiling_tokens=config.get("maxOutputTokens"),
        schema=_schema(config),
    )


def _checked(given: object, known: frozenset[str], where: str) -> Json:
    if not isinstance(given, dict):
        raise refuse(f"Invalid value at '{where}'.", where)
    for name in given:
        if camel(name) not in known:
            place = f" at '{where}'" if where else ""
            message = f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.'
            raise refuse(message, where)
    return {camel(name): value for name, value in given.items()}


def _contents(call: Call, contents: object) -> list[Json]:
    if not isinstance(contents, list) or not contents:
        raise refuse("* GenerateContentRequest.contents: contents is not specified", "contents")
    for index, content in enumerate(contents):
        if content.get("role", "user") not in ("user", "model", "function"):
            raise refuse("Please use a valid role: user, model.")
        if not content.get("parts"):
            message = f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty."
            raise refuse(message)
        for part in content["parts"]:
            _checked(part, _PART, f"contents[{index}].parts[0]")
    _check_signatures(call.model, contents)
    return contents


def _check_signatures(model: str, contents: list[Json]) -> None:
    # Source: docs/sources.md (Gemini); only the steps since the last real user message are checked.
    if not model.startswith("gemini-3"):
        return
    for content in reversed(contents):
        parts = [{camel(name): value for name, value in part.items()} for part in content["parts"]]
        if content.get("role", "user") == "user" and any("text" in part for part in parts):
            return
        calls = [part for part in parts if "functionCall" in part]
        if calls and not calls[0].get("thoughtSignature"):
            raise refuse("Function call is missing a thought_signature in functionCall parts.")


def _calling(body: Json) -> Json:
    config = body.get("toolConfig") or {}
    calling = config.get("functionCallingConfig") or config.get("function_calling_config") or {}
    return {camel(name): value for name, value in calling.items()}


def _tools(tools: list[Json]) -> tuple[Tool, ...]:
    found = []
    for tool in tools:
        declared = tool.get("functionDeclarations") or tool.get("function_declarations") or ()
        for function in declared:
            named = {camel(name): value for name, value in function.items()}
            schema = named.get("parametersJsonSchema") or named.get("parameters") or {}
            found.append(Tool(str(named.get("name")), schema))
    return tuple(found)


def _schema(config: Json) -> Json | None:
    if config.get("responseMimeType") != _JSON_TYPE:
        if config.get("responseSchema") or config.get("responseJsonSchema"):
            raise refuse("responseSchema needs the response mime type application/json")
        return None
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    return schema or {"type": "object", "properties": {"simulated": {"type": "boolean"}}}
