"""Ollama's native API: chat, tags, show, ps, version and embed.

Source: docs/sources.md (Ollama); the members and their order are those of the recordings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mana_llm.simulator import models
from mana_llm.simulator.ollama_reads import asked, refuse, required_model
from mana_llm.simulator.reply import Frame, RefusedError, Reply, frame, whole
from mana_llm.simulator.script import Fault, Json, Script, ToolCall
from mana_llm.simulator.texts import Answer, compose, tokens, vector
from mana_llm.simulator.voice import Call, Moment

VERSION: Final = "0.33.0"
LONG_AGO: Final = "2026-06-19T16:26:52.429441648-07:00"
# Durations are nanoseconds; these are about what a small model on a laptop takes.
_TOTAL_NS, _LOAD_NS, _EVAL_NS = 978_445_250, 58_436_917, 810_829_670


class OllamaVoice(msgspec.Struct, frozen=True):
    """A local Ollama."""

    @property
    def dialect(self) -> str:
        """Its name in the log."""
        return "ollama"

    def reply(self, call: Call, script: Script) -> Reply:
        """The answer of one endpoint."""
        if call.operation == "chat":
            return _chat(call, script)
        if call.operation == "root":
            text = Frame(b"Ollama is running")
            return Reply(200, (text,), "text/plain; charset=utf-8")
        if call.operation == "version":
            return whole(200, {"version": VERSION})
        if call.operation == "tags":
            return whole(200, {"models": [_tag(model) for model in models.LOCAL_MODELS]})
        if call.operation == "ps":
            return whole(200, {"models": [_running(models.LOCAL_MODELS[0])]})
        if call.operation == "show":
            return whole(200, _shown(required_model(call.body)))
        if call.operation == "embed":
            return _embed(call)
        raise RefusedError(Reply(404, (Frame(b"404 page not found"),), "text/plain"))

    def refusal(self, fault: Fault) -> Reply:
        """An error string. The local server sends no Retry-After, the cloud behind it may."""
        headers = (("Retry-After", fault.retry_after),) if fault.retry_after is not None else ()
        return whole(fault.code or 500, {"error": _message(fault)}, headers)

    def trouble(self, fault: Fault) -> Iterable[Frame]:
        """A last line with an error."""
        yield frame({"error": _message(fault)})

    def public(self, operation: str) -> bool:
        """Nothing: a key that is required is required everywhere."""
        return False

    def bad_key(self, *, missing: bool) -> Reply:
        """The cloud's 401 (a local server knows no keys)."""
        return whole(401, {"error": "unauthorized", "signin_url": "https://ollama.invalid/connect"})


def _message(fault: Fault) -> str:
    if fault.reason == "context":
        return "input length exceeds the context length"
    known = {
        401: "unauthorized",
        404: "model 'simulated' not found",
        429: "you have reached your hourly usage limit",
        # The two spaces are Ollama's own.
        503: "server busy, please try again.  maximum pending requests exceeded",
    }
    return fault.message or known.get(fault.code, "model runner has unexpectedly stopped")


def _chat(call: Call, script: Script) -> Reply:
    if not call.body.get("messages"):
        return whole(200, _loaded(call))
    answer = compose(asked(call.body), script)
    lines = _lines(answer, call.moment)
    if answer.asked.stream:
        return Reply(200, tuple(lines), "application/x-ndjson", "ndjson")
    message: Json = {"role": "assistant", "content": "".join(answer.pieces)}
    if answer.reasoning:
        message["thinking"] = "".join(answer.reasoning)
    if answer.calls:
        message["tool_calls"] = [_tool_call(call.moment, at, one) for at, one in enumerate(answer.calls)]
    said = None if answer.nothing else message
    return whole(200, _line(answer, call.moment, said, done=True) | _figures(answer))


def _loaded(call: Call) -> Json:
    # Empty messages load the model; with keep_alive 0 they unload it.
    name = required_model(call.body)
    reason = "unload" if call.body.get("keep_alive") == 0 else "load"
    message = {"role": "assistant", "content": ""}
    return {"model": name, "created_at": _instant(call.moment), "message": message} | {
        "done": True,
        "done_reason": reason,
    }


def _lines(answer: Answer, moment: Moment) -> Iterator[Frame]:
    def line(**said: object) -> Frame:
        message: Json | None = {"role": "assistant", "content": ""} | said
        return frame(_line(answer, moment, None if answer.nothing else message, done=False))

    for piece in answer.reasoning:
        yield line(thinking=piece)
    for piece in answer.pieces:
        yield line(content=piece)
    for number, one in enumerate(answer.calls):
        yield line(tool_calls=[_tool_call(moment, number, one)])
    last = {"role": "assistant", "content": ""}
    yield frame(_line(answer, moment, last, done=True) | _figures(answer), "finish")


def _line(answer: Answer, moment: Moment, message: Json | None, *, done: bool) -> Json:
    return {
        "model": answer.asked.model,
        "created_at": _instant(moment),
        "message": message,
        "done": done,
    }


def _figures(answer: Answer) -> Json:
    # done_reason never says that tools were called, and there is no content filter.
    reason = "length" if answer.finish == "length" else "stop"
    figures: Json = {"done_reason": reason, "total_duration": _TOTAL_NS, "load_duration": _LOAD_NS}
    if answer.usage.prompt:
        figures["prompt_eval_count"] = answer.usage.prompt  # omitted when 0, as Go's omitempty does
    figures |= {"prompt_eval_duration": _LOAD_NS, "eval_count": answer.usage.completion}
    return figures | {"eval_duration": _EVAL_NS}


def _tool_call(moment: Moment, number: int, call: ToolCall) -> Json:
    function = {"index": number, "name": call.name, "arguments": call.arguments}
    return {"id": f"call_sim{moment.number:06}{number}", "function": function}


def _instant(moment: Moment) -> str:
    days, seconds = divmod(moment.created_s, 86400)
    # Days since 1970 to a date. Source: Howard Hinnant, "chrono-compatible low-level date algorithms".
    era, of_era = divmod(days + 719468, 146097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_part = (5 * of_year + 2) // 153
    day, month = of_year - (153 * month_part + 2) // 5 + 1, (month_part + 2) % 12 + 1
    year = year_of_era + era * 400 + (month <= 2)
    hours, rest = divmod(seconds, 3600)
    return f"{year:04}-{month:02}-{day:02}T{hours:02}:{rest // 60:02}:{rest % 60:02}.061545Z"


def _tag(model: models.LocalModel) -> Json:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": LONG_AGO,
        "size": model.size,
        "digest": model.digest,
        "details": models.details(model),
        "capabilities": list(model.capabilities),
    }


def _running(model: models.LocalModel) -> Json:
    kept = {key: value for key, value in _tag(model).items() if key not in ("modified_at", "capabilities")}
    more = {"expires_at": "2038-01-01T00:00:00Z", "size_vram": model.size, "context_length": 4096}
    return kept | more


def _shown(name: str) -> Json:
    fallback = models.LocalModel(name, "simulated", "1B", 10**9, 8192, _abilities(name))
    model = next((one for one in models.LOCAL_MODELS if one.name in (name, f"{name}:latest")), fallback)
    info = {"general.architecture": model.family, f"{model.family}.context_length": model.context}
    return {
        "license": "Simulated",
        "modelfile": f"FROM {name}",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": models.details(model),
        "model_info": info,
        "capabilities": list(model.capabilities),
        "modified_at": LONG_AGO,
    }


def _abilities(name: str) -> tuple[str, ...]:
    """What a model that is not listed can do; a scripted one can do everything."""
    if name.startswith("sim"):
        return ("completion", "tools", "vision", "audio", "thinking")
    return ("completion", "tools", "thinking") if models.thinks(name) else ("completion", "tools")


def _embed(call: Call) -> Reply:
    name = required_model(call.body)
    given = call.body.get("input")
    inputs = given if isinstance(given, list) else [] if given in (None, "") else [given]
    if not all(isinstance(one, str) for one in inputs):
        raise refuse(400, "invalid input type")
    size = models.vector_size(name)
    wanted = int(call.body.get("dimensions") or size)
    vectors = [_cut(vector(text, size), wanted) for text in inputs]
    count = sum(tokens(len(text)) for text in inputs)
    figures = {"total_duration": _TOTAL_NS, "load_duration": _LOAD_NS, "prompt_eval_count": count}
    return whole(200, {"model": name, "embeddings": vectors} | figures)


def _cut(values: list[float], size: int) -> list[float]:
    # Ollama normalises again after the cut.
    kept = values[:size]
    length = math.sqrt(sum(value * value for value in kept)) or 1.0
    return [value / length for value in kept]
