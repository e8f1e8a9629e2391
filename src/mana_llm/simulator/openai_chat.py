"""Writing an answer as a chat completion or as its chunks, in the flavour's own shape.

Source: docs/sources.md (OpenAI and its kin); recordings of each flavour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from mana_llm.simulator.flavours import Flavour
from mana_llm.simulator.reply import Frame, frame
from mana_llm.simulator.script import Json, ToolCall, Usage
from mana_llm.simulator.texts import Answer
from mana_llm.simulator.voice import Moment

FRAGMENT_CHARACTERS: Final = 12


def completion(flavour: Flavour, answer: Answer, moment: Moment) -> Json:
    """The whole `chat.completion` object."""
    choices = [_choice(flavour, answer, moment, index) for index in range(answer.asked.count)]
    body = _envelope(flavour, answer, moment, "chat.completion")
    body["choices"] = None if answer.nothing else choices
    body["usage"] = usage_object(flavour, answer.usage)
    if flavour.name == "together":
        body["prompt"] = []
    if flavour.name == "groq":
        body |= {"usage_breakdown": None, "x_groq": {"id": _request_id(moment), "seed": 1}}
    return body


def chunks(flavour: Flavour, answer: Answer, moment: Moment) -> Iterator[Frame]:
    """The chunks of a stream with [DONE] at its end; `flavour.usage_place` says where usage sits."""
    writer = _ChunkWriter(flavour, answer, moment)
    for index in range(answer.asked.count):
        yield from writer.choice(index)
    if flavour.usage_place in ("separate", "both"):
        usage = usage_object(flavour, answer.usage)
        yield frame(writer.chunk([]) | {"usage": usage}, "usage")
    yield Frame(b"[DONE]", "done")


def usage_object(flavour: Flavour, usage: Usage) -> Json:
    """Usage with the details that the flavour gives."""
    body: Json = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }
    if flavour.name == "together":
        return body | {"cached_tokens": usage.cached}
    if flavour.name == "groq":
        times = {"queue_time": 0.01, "prompt_time": 0.01, "completion_time": 0.02, "total_time": 0.03}
        if usage.reasoning:
            body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
        return body | times
    reasoning: Json = {"reasoning_tokens": usage.reasoning, "audio_tokens": 0}
    body["prompt_tokens_details"] = {"cached_tokens": usage.cached, "audio_tokens": 0}
    if flavour.name == "openrouter":
        body["completion_tokens_details"] = reasoning | {"image_tokens": 0}
        costs = {"upstream_inference_cost": 3e-06}
        return body | {"cost": 3e-06, "cost_details": costs, "is_byok": False}
    if flavour.name == "deepseek":
        missed = usage.prompt - usage.cached
        body |= {"prompt_cache_hit_tokens": usage.cached, "prompt_cache_miss_tokens": missed}
    predictions = {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    body["completion_tokens_details"] = reasoning | predictions
    return body


def _envelope(flavour: Flavour, answer: Answer, moment: Moment, kind: str) -> Json:
    body: Json = {
        "id": f"chatcmpl-sim{moment.number:06}",
        "object": kind,
        "created": moment.created_s,
        "model": answer.asked.model,
    }
    if flavour.name == "openrouter":
        body["provider"] = "Simulated"
    if flavour.name in ("openai", "groq"):
        body |= {"service_tier": "default" if flavour.name == "openai" else "on_demand"}
    if flavour.name != "together":
        body["system_fingerprint"] = "fp_simulated"
    return body


def _choice(flavour: Flavour, answer: Answer, moment: Moment, index: int) -> Json:
    text = "".join(answer.pieces)
    calls = [_call(moment, index, number, call) for number, call in enumerate(answer.calls)]
    blank = None if calls or (answer.finish == "content_filter" and not text) else ""
    message: Json = {"role": "assistant"}
    if text or not calls or flavour.name != "groq":
        message["content"] = text or blank  # Groq leaves it out beside tool calls
    if flavour.name in ("openai", "openrouter"):
        message["refusal"] = None
    if flavour.name == "openai":
        message["annotations"] = []
    if flavour.reasoning_field and (answer.reasoning or flavour.name == "openrouter"):
        message |= _reasoning(flavour, "".join(answer.reasoning), inside="message")
    if calls:
        message["tool_calls"] = calls
    choice = {"index": index, "message": message, "logprobs": None}
    return choice | _finish(flavour, answer.finish)


def _finish(flavour: Flavour, finish: str | None) -> Json:
    word = flavour.stop_word if finish == "stop" else finish
    native = {"native_finish_reason": finish} if flavour.name == "openrouter" else {}
    return {"finish_reason": word} | native


def _reasoning(flavour: Flavour, text: str, inside: str) -> Json:
    if flavour.name == "openrouter":
        detail = {"type": "reasoning.text", "text": text, "index": 0, "format": "unknown"}
        return {"reasoning": text or None} | ({"reasoning_details": [detail]} if text else {})
    channel = {"channel": "analysis"} if flavour.name == "groq" and inside == "delta" else {}
    return {flavour.reasoning_field: text} | channel


def _call(moment: Moment, choice: int, number: int, call: ToolCall) -> Json:
    arguments = msgspec.json.encode(call.arguments).decode()
    call_id = f"call_sim{moment.number:06}{choice}{number}"
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _request_id(moment: Moment) -> str:
    return f"req_sim{moment.number:06}"


class _ChunkWriter:
    """Writes the chunks of one stream."""

    def __init__(self, flavour: Flavour, answer: Answer, moment: Moment) -> None:
        self._flavour = flavour
        self._answer = answer
        self._moment = moment
        self._envelope = _envelope(flavour, answer, moment, "chat.completion.chunk")
        if flavour.name == "openai":
            self._envelope["obfuscation"] = "simulated"

    def chunk(self, choices: list[Json] | None) -> Json:
        """A chunk with these choices; OpenAI's says `usage: null` when usage will come."""
        body = self._envelope | {"choices": choices}
        empty = self._flavour.name == "openai" and self._flavour.usage_place == "separate"
        return body | {"usage": None} if empty or self._flavour.name in ("together", "deepseek") else body

    def choice(self, index: int) -> Iterator[Frame]:
        """All chunks of one choice, from its role to its finish reason."""
        flavour, answer = self._flavour, self._answer
        if not flavour.role_each:
            yield frame(self._role(index), "role")
        for piece in answer.reasoning if flavour.reasoning_field else ():
            yield self._delta(index, _reasoning(flavour, piece, inside="delta"))
        for piece in answer.pieces:
            yield self._delta(index, {"content": piece})
        for number, call in enumerate(answer.calls):
            yield from self._call(index, number, call)
        yield frame(self._last(index), "finish")

    def _role(self, index: int) -> Json:
        refusal = {"refusal": None} if self._flavour.name == "openai" else {}
        delta = {"role": "assistant", "content": None if self._answer.calls else ""} | refusal
        first = self.chunk(self._choices(index, delta, None))
        if self._flavour.name == "groq":
            first["x_groq"] = {"id": _request_id(self._moment), "seed": 1}
        return first

    def _delta(self, index: int, delta: Json) -> Frame:
        if self._flavour.role_each:
            delta = {"role": "assistant", "content": ""} | delta
        return frame(self.chunk(self._choices(index, delta, None)))

    def _choices(self, index: int, delta: Json, finish: str | None) -> list[Json] | None:
        if self._answer.nothing:
            return None
        choice: Json = {"index": index, "delta": delta, "logprobs": None} | _finish(self._flavour, finish)
        if self._flavour.name == "together":
            choice["delta"] = delta | {"token_id": 1}
            # Seeds beyond 2**53 are what Together really sends.
            seed = 2151581269210956001 if finish else None
            choice |= {"text": delta.get("content") or "", "seed": seed}
        return [choice]

    def _call(self, index: int, number: int, call: ToolCall) -> Iterator[Frame]:
        told = _call(self._moment, index, number, call)
        arguments = told["function"]["arguments"]
        if self._flavour.whole_tool_calls:
            yield self._delta(index, {"tool_calls": [{"index": number} | told]})
            return
        opening = {"index": number} | told | {"function": {"name": call.name, "arguments": ""}}
        yield self._delta(index, {"tool_calls": [opening]})
        for start in range(0, len(arguments), FRAGMENT_CHARACTERS):
            part = arguments[start : start + FRAGMENT_CHARACTERS]
            yield self._delta(index, {"tool_calls": [{"index": number, "function": {"arguments": part}}]})

    def _last(self, index: int) -> Json:
        flavour = self._flavour
        delta: Json = {"role": "assistant", "content": ""} if flavour.role_each else {}
        body = self.chunk(self._choices(index, delta, self._answer.finish))
        usage = usage_object(flavour, self._answer.usage)
        if flavour.usage_place in ("finish", "both"):
            body["usage"] = usage
        if flavour.usage_place == "x_groq" or (flavour.usage_place == "both" and flavour.name == "groq"):
            body["x_groq"] = {"id": _request_id(self._moment), "usage": usage}
        return body
