"""Google's Gemini API: generateContent (whole, as SSE, as an array), embeddings, countTokens and models.

Source: docs/sources.md (Gemini); the members are those of the recordings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mana_llm.simulator import models
from mana_llm.simulator.gemini_reads import asked, content_text, error_body, refuse
from mana_llm.simulator.reply import Frame, RefusedError, Reply, Wrapping, frame, whole
from mana_llm.simulator.script import Fault, Json, Script, ToolCall
from mana_llm.simulator.texts import Answer, compose, tokens, vector
from mana_llm.simulator.voice import Call

_STATUS: Final = (
    (400, "INVALID_ARGUMENT", "The request has an invalid argument."),
    (401, "UNAUTHENTICATED", "The request has invalid authentication credentials."),
    (403, "PERMISSION_DENIED", "The caller does not have permission."),
    (404, "NOT_FOUND", "The model is not found for API version v1beta."),
    (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    (500, "INTERNAL", "An internal error has occurred."),
    (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    (504, "DEADLINE_EXCEEDED", "The deadline expired before the operation could complete."),
)
_FINISH: Final = (("length", "MAX_TOKENS"), ("content_filter", "SAFETY"))
_TYPE: Final = "type.googleapis.com/google.rpc."
JSON_TYPE: Final = "application/json; charset=UTF-8"


class GeminiVoice(msgspec.Struct, frozen=True):
    """The Gemini API; `wrapping` is how the caller asked a stream to be written, or whole."""

    wrapping: Wrapping = "whole"

    @property
    def dialect(self) -> str:
        """Its name in the log."""
        return "gemini"

    def reply(self, call: Call, script: Script) -> Reply:
        """The answer of one method; a refused array is an array, too."""
        try:
            return self._reply(call, script)
        except RefusedError as refused:
            raise RefusedError(self._listed(refused.reply)) from refused

    def _reply(self, call: Call, script: Script) -> Reply:
        if call.operation == "models":
            return whole(200, {"models": [_model(name, method) for name, method in models.GEMINI_MODELS]})
        self._check_known(call)
        if call.operation == "model":
            method = dict(models.GEMINI_MODELS).get(call.model, "generateContent")
            return whole(200, _model(call.model, method))
        if call.operation in ("generateContent", "streamGenerateContent"):
            return self._generate(call, script)
        if call.operation == "countTokens":
            return whole(200, _count(call))
        if call.operation == "embedContent":
            return whole(200, {"embedding": _embedding(call.model, call.body)})
        if call.operation == "batchEmbedContents":
            return whole(200, _batch(call))
        raise self._not_found(call)

    def refusal(self, fault: Fault) -> Reply:
        """Google's error body; the time to wait is RetryInfo in it, in seconds with an s."""
        status = fault.code or 500
        words = {code: (word, message) for code, word, message in _STATUS}
        word, message = words.get(status, ("UNKNOWN", "Unknown error."))
        details: list[Json] = []
        if status == 429:
            per = "PerDay" if fault.reason == "quota" else "PerMinute"
            violation = {"quotaId": f"GenerateRequests{per}PerProjectPerModel-FreeTier"}
            details.append({"@type": f"{_TYPE}QuotaFailure", "violations": [violation]})
        elif fault.reason and fault.reason != "context":
            details.append({"@type": f"{_TYPE}ErrorInfo", "reason": fault.reason, "domain": "googleapis.com"})
        if fault.reason == "context":
            message = "The input token count (2000000) exceeds the maximum number of tokens allowed."
        if fault.retry_after is not None:
            details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{fault.retry_after.rstrip('s')}s"})
        return self._listed(whole(status, error_body(status, word, fault.message or message, details)))

    def trouble(self, fault: Fault) -> Iterable[Frame]:
        """An error body as the last event (or the last element of the array)."""
        reply = GeminiVoice().refusal(fault)
        yield Frame(reply.frames[0].payload)

    def public(self, operation: str) -> bool:
        """Nothing is public."""
        return False

    def bad_key(self, *, missing: bool) -> Reply:
        """403 for no key, but 400 for a wrong one: that is how Google says it."""
        if missing:
            message = "Method doesn't allow unregistered callers. Please use API Key."
            return self._listed(whole(403, error_body(403, "PERMISSION_DENIED", message)))
        message = "API key not valid. Please pass a valid API key."
        service = {"service": "generativelanguage.googleapis.com"}
        info = {"@type": f"{_TYPE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        details = [info | {"metadata": service}]
        return self._listed(whole(400, error_body(400, "INVALID_ARGUMENT", message, details)))

    def _listed(self, reply: Reply) -> Reply:
        if self.wrapping != "array":
            return reply
        element = msgspec.structs.replace(reply.frames[0], payload=b"[%b]" % reply.frames[0].payload)
        return msgspec.structs.replace(reply, frames=(element,))

    def _check_known(self, call: Call) -> None:
        if models.unknown(call.model):
            raise self._not_found(call)

    def _not_found(self, call: Call) -> RefusedError:
        place = f"API version v1beta, or is not supported for {call.operation}."
        message = f"models/{call.model} is not found for {place}"
        return RefusedError(whole(404, error_body(404, "NOT_FOUND", message)))

    def _generate(self, call: Call, script: Script) -> Reply:
        answer = compose(asked(call), script)
        headers = (("x-gemini-service-tier", "standard"),)
        blocked = script.fails("filter")
        if blocked and not blocked.after and blocked.how != "candidate":
            bodies = [frame(_blocked(answer, call), "finish")]
        elif call.operation == "generateContent":
            bodies = [frame(_response(answer, call, _parts(answer, call), last=True))]
        else:
            bodies = list(_chunks(answer, call))
        if self.wrapping == "whole":
            only = msgspec.structs.replace(bodies[0], kind="text")
            return Reply(200, (only,), JSON_TYPE, headers=headers)
        kind = "text/event-stream" if self.wrapping.startswith("sse") else JSON_TYPE
        return Reply(200, tuple(bodies), kind, self.wrapping, headers)


def _chunks(answer: Answer, call: Call) -> Iterator[Frame]:
    # Calls come whole; with them the finish is in the same chunk, as in most recordings.
    for piece in answer.reasoning if _shows_thoughts(call) else ():
        yield frame(_response(answer, call, [{"text": piece, "thought": True}], last=False))
    for piece in answer.pieces if answer.calls else answer.pieces[:-1]:
        yield frame(_response(answer, call, [{"text": piece}], last=False))
    calls = _call_parts(answer, call)
    for part in calls[:-1]:
        yield frame(_response(answer, call, [part], last=False))
    ending = calls[-1:] or [{"text": piece} for piece in answer.pieces[-1:]]
    if not ending and answer.finish == "stop":
        ending = [{"text": ""}]
    yield frame(_response(answer, call, ending, last=True), "finish")


def _parts(answer: Answer, call: Call) -> list[Json]:
    thoughts = [{"text": "".join(answer.reasoning), "thought": True}] if answer.reasoning else []
    text = [{"text": "".join(answer.pieces)}] if answer.pieces else []
    return (thoughts if _shows_thoughts(call) else []) + text + _call_parts(answer, call)


def _call_parts(answer: Answer, call: Call) -> list[Json]:
    parts = [_call_part(call, number, one) for number, one in enumerate(answer.calls)]
    if parts and "gemini-2" not in call.model:
        # Only the first call of a step carries a signature.
        parts[0]["thoughtSignature"] = "c2ltdWxhdGVkLXNpZ25hdHVyZQ=="
    return parts


def _call_part(call: Call, number: int, one: ToolCall) -> Json:
    body: Json = {"name": one.name, "args": one.arguments}
    # Ids are absent in 2.x and present from 3.5 on.
    if call.model.startswith(("gemini-3.5", "gemini-3.6", "gemini-3.7", "gemini-3.8", "sim")):
        body["id"] = f"sim{call.moment.number:06}{number}"
    return {"functionCall": body}


def _shows_thoughts(call: Call) -> bool:
    config = call.body.get("generationConfig") or call.body.get("generation_config") or {}
    thinking = config.get("thinkingConfig") or config.get("thinking_config") or {}
    return bool(thinking.get("includeThoughts") or thinking.get("include_thoughts"))


def _response(answer: Answer, call: Call, parts: list[Json], *, last: bool) -> Json:
    content: Json = {"parts": parts, "role": "model"} if parts else {"role": "model"}
    if last and not parts and answer.finish == "content_filter":
        content = {}
    candidate: Json = {"content": content}
    if last:
        candidate["finishReason"] = dict(_FINISH).get(answer.finish, "STOP")
        if answer.calls:
            candidate["finishMessage"] = "Model generated function call(s)."
    candidate["index"] = 0
    candidates = None if answer.nothing else [candidate]
    return {"candidates": candidates, "usageMetadata": _usage(answer)} | _tail(call)


def _blocked(answer: Answer, call: Call) -> Json:
    count = answer.usage.prompt
    usage = {"promptTokenCount": count, "totalTokenCount": count}
    return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage} | _tail(call)


def _tail(call: Call) -> Json:
    return {"modelVersion": call.model, "responseId": f"sim{call.moment.number:06}"}


def _usage(answer: Answer) -> Json:
    usage = answer.usage
    body: Json = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.completion - usage.reasoning,
        "totalTokenCount": usage.prompt + usage.completion,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.prompt}],
        "serviceTier": "standard",
    }
    more = {"thoughtsTokenCount": usage.reasoning, "cachedContentTokenCount": usage.cached}
    return body | {name: count for name, count in more.items() if count}


def _model(name: str, method: str) -> Json:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": f"Simulated {name}",
        "description": "A simulated model.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": [method, "countTokens"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": method == "generateContent",
    }


def _count(call: Call) -> Json:
    request = call.body.get("generateContentRequest") or call.body
    text = " ".join(content_text(content) for content in request.get("contents") or ())
    count = tokens(len(text))
    return {"totalTokens": count, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": count}]}


def _embedding(model: str, body: Json) -> Json:
    size = body.get("outputDimensionality") or body.get("output_dimensionality") or models.vector_size(model)
    content = body.get("content")
    if not isinstance(content, dict):
        raise refuse("content is not set")
    return {"values": vector(content_text(content), int(size))}


def _batch(call: Call) -> Json:
    requests = call.body.get("requests")
    if not isinstance(requests, list) or not requests:
        raise refuse("BatchEmbedContentsRequest.requests: must not be empty")
    if len(requests) > 100:
        raise refuse("BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch")
    if any(not str(one.get("model", "")).startswith("models/") for one in requests):
        raise refuse("BatchEmbedContentsRequest.requests[].model: unexpected model name format")
    return {"embeddings": [_embedding(call.model, one) for one in requests]}
