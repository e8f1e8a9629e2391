"""The OpenAI-compatible upstreams: chat completions, models and embeddings, in each flavour's own shape.

Source: docs/sources.md (OpenAI and its kin); the members and their order are those of the recordings.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable

import msgspec

from mana_llm.simulator import models, openai_errors
from mana_llm.simulator.flavours import Flavour
from mana_llm.simulator.openai_chat import chunks, completion
from mana_llm.simulator.openai_errors import Problem
from mana_llm.simulator.openai_models import model_list, model_row
from mana_llm.simulator.openai_reads import asked, known, refuse
from mana_llm.simulator.reply import Frame, Headers, RefusedError, Reply, frame, whole
from mana_llm.simulator.script import Fault, Json, Script
from mana_llm.simulator.texts import compose, tokens, vector
from mana_llm.simulator.voice import Call


class OpenAIVoice(msgspec.Struct, frozen=True):
    """One OpenAI-compatible upstream."""

    flavour: Flavour

    @property
    def dialect(self) -> str:
        """The flavour's name."""
        return self.flavour.name

    def reply(self, call: Call, script: Script) -> Reply:
        """Chat, the list of models, one model, or embeddings."""
        if call.operation == "chat":
            return self._chat(call, script)
        if call.operation == "models":
            return whole(200, model_list(self.flavour), self._headers(call))
        if call.operation == "model":
            return whole(200, model_row(known(self.flavour, call.model), "system"), self._headers(call))
        if call.operation == "key" and self.flavour.name == "openrouter":
            # The list is public there, so this is how a key is tried.
            return whole(200, {"data": {"label": "simulated", "limit": None, "usage": 0.0}})
        if call.operation == "embeddings":
            return self._embeddings(call)
        unknown_url = Problem(f"Invalid URL ({call.operation})")
        raise RefusedError(openai_errors.refusal(self.flavour, 404, unknown_url))

    def refusal(self, fault: Fault) -> Reply:
        """The flavour's error body, and Retry-After as a header."""
        status = fault.code or 500
        headers = (("Retry-After", fault.retry_after),) if fault.retry_after is not None else ()
        return openai_errors.refusal(self.flavour, status, openai_errors.problem_of(fault), headers)

    def trouble(self, fault: Fault) -> Iterable[Frame]:
        """A data event with an error; Groq names the event, OpenRouter goes on to [DONE]."""
        problem = openai_errors.problem_of(fault)
        error = openai_errors.error_object(self.flavour, fault.code or 500, problem)
        how = fault.how or {"groq": "event", "openrouter": "done"}.get(self.flavour.error, "data")
        if how == "event":
            # Source: two Groq recordings; the stream ends without [DONE].
            body: Json = {"error": error | {"status_code": fault.code or 400}}
            yield Frame(msgspec.json.encode(body), "text", event="error")
            return
        body = {"error": error}
        if self.flavour.error == "openrouter":
            delta: Json = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            body = {"id": "gen-simulated", "object": "chat.completion.chunk", **body, "choices": [delta]}
        yield frame(body)
        if how == "done":
            yield Frame(b"[DONE]", "done")

    def public(self, operation: str) -> bool:
        """OpenRouter's list of models needs no key."""
        return self.flavour.public_models and operation in ("models", "model")

    def bad_key(self, *, missing: bool) -> Reply:
        """401 in each flavour's words."""
        message = "Missing Authentication header" if missing else "Incorrect API key provided: simul***."
        return openai_errors.refusal(self.flavour, 401, Problem(message, code="invalid_api_key"))

    def _chat(self, call: Call, script: Script) -> Reply:
        answer = compose(asked(self.flavour, call.body), script)
        headers = self._headers(call)
        if not answer.asked.stream:
            return whole(200, completion(self.flavour, answer, call.moment), headers)
        options = call.body.get("stream_options") or {}
        usage_wanted = bool(options.get("include_usage")) or self.flavour.usage_always
        place = script.usage_place or (self.flavour.usage_place if usage_wanted else "none")
        flavour = msgspec.structs.replace(
            self.flavour,
            usage_place=place,
            role_each=self.flavour.role_each if script.role_each is None else script.role_each,
        )
        frames = tuple(chunks(flavour, answer, call.moment))
        return Reply(200, frames, "text/event-stream; charset=utf-8", "sse", headers, flavour.comments)

    def _headers(self, call: Call) -> Headers:
        headers: Headers = (("x-request-id", f"req_sim{call.moment.number:06}"),)
        if self.flavour.name not in ("openai", "groq"):
            return headers
        limits = (
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-limit-tokens", "4000000"),
            ("x-ratelimit-remaining-requests", "4999"),
            ("x-ratelimit-remaining-tokens", "3999992"),
            ("x-ratelimit-reset-requests", "12ms"),
            ("x-ratelimit-reset-tokens", "0s"),
        )
        return (*headers, *limits, ("openai-version", "2020-10-01"), ("openai-processing-ms", "1"))

    def _embeddings(self, call: Call) -> Reply:
        name = known(self.flavour, call.body.get("model"))
        given = call.body.get("input")
        inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        if not inputs or not all(isinstance(one, (str, list)) and one for one in inputs):
            raise refuse(self.flavour, "'$.input' is invalid: it must not be empty.", None, "input")
        texts = [one if isinstance(one, str) else str(one) for one in inputs]
        size = int(call.body.get("dimensions") or models.vector_size(name))
        as_base64 = call.body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _embedding(text, size, as_base64=as_base64)}
            for index, text in enumerate(texts)
        ]
        count = sum(tokens(len(text)) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        body = {"object": "list", "data": data, "model": name, "usage": usage}
        return whole(200, body, self._headers(call))


def _embedding(text: str, size: int, *, as_base64: bool) -> list[float] | str:
    values = vector(text, size)
    return base64.b64encode(struct.pack(f"<{size}f", *values)).decode() if as_base64 else values
