"""Turns Gemini's candidates into OpenAI's choices, whole or piece by piece. Source: docs/sources.md (Gemini).

A thought signature must come back with the very part that it came on. It travels as Google's own OpenAI
surface sends it: `extra_content.google.thought_signature`, on the tool call, or on the message for any other
part. A call's is remembered, too, for clients that drop what they do not know.

A message has room for one signature. Of several the last is kept, and a stream says it once, with the finish:
clients that put deltas together join texts, and two signatures joined are none.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from mana_llm.kit.fences import FenceStripper
from mana_llm.providers.google.finish import BLOCKED, block_of, failure_of, finish_name, finish_reason
from mana_llm.providers.google.signatures import Signatures, signed
from mana_llm.providers.google.wire import (
    Answer,
    Blob,
    Candidate,
    FunctionCall,
    GeminiPart,
    logprobs_in,
    read_answer,
    usage_in,
)
from mana_llm.providers.toolcalls import arguments_text, is_synthesised, synthesised_id
from mana_llm.schema.chat import ChatCompletion
from mana_llm.schema.errors import ProviderError, ProviderProtocolError


class Reading(msgspec.Struct, frozen=True):
    """How an answer is read: where signatures are remembered, and whether it is to be JSON without a fence."""

    signatures: Signatures
    structured: bool = False


class Progress:
    """What is known of one choice so far. `seed` names the answer; ids that are missing are made of it."""

    def __init__(self, index: int, seed: str, reading: Reading) -> None:
        self.index = index
        self.has_content = False
        self.role_said = False
        self.finish = ""
        self._is_blocked = False
        self._signature = ""
        self._seed = seed
        self._ids: set[str] = set()
        self._signatures = reading.signatures
        self._fences = FenceStripper() if reading.structured else None

    @property
    def has_calls(self) -> bool:
        """Whether the choice has called a function."""
        return bool(self._ids)

    def delta_of(self, candidate: Candidate) -> dict[str, Any]:
        """What a piece adds, as a delta; empty if it adds nothing. Notes the finish and the message's signature.

        Raises:
            ProviderProtocolError: if the arguments of a call are no JSON object.
        """
        if not self._is_blocked:
            self.finish = finish_name(candidate.finish_reason) or self.finish
        delta: dict[str, Any] = {}
        for part in (candidate.content.parts if candidate.content else None) or ():
            self._add(part, delta)
        self.has_content = self.has_content or carries_content(delta)
        if self._fences is not None and (said := delta.pop("content", "")) and (text := self._fences.feed(said)):
            delta["content"] = text
        return delta

    def block(self) -> None:
        """Note that the prompt's block ended the choice, whatever else is said of its finish."""
        self.finish, self._is_blocked = BLOCKED, True

    def rest(self) -> dict[str, Any]:
        """What was held back, as the last delta: text that might have been a fence, and the message's signature."""
        text = self._fences.end() if self._fences is not None else ""
        delta: dict[str, Any] = {"content": text} if text else {}
        return {**delta, "extra_content": signed(self._signature)} if self._signature else delta

    def _add(self, part: GeminiPart, delta: dict[str, Any]) -> None:
        if part.text:
            name = "reasoning_content" if part.thought else "content"
            delta[name] = delta.get(name, "") + part.text
        if part.inline_data is not None and (image := _image_of(part.inline_data)):
            delta.setdefault("images", []).append(image)
        if part.function_call is not None:
            delta.setdefault("tool_calls", []).append(self._call_of(part.function_call, part.thought_signature))
        elif part.thought_signature:
            self._signature = part.thought_signature

    def _call_of(self, called: FunctionCall, signature: str | None) -> dict[str, Any]:
        index = len(self._ids)
        name, arguments = called.name or "", arguments_text(called.args)
        call_id = called.id
        if not call_id or call_id in self._ids:
            call_id = synthesised_id(f"{self._seed} {self.index} {index} {called.name} {arguments}")
        self._ids.add(call_id)
        call = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        if not signature:
            return call
        # An id that was made for an answer without a name may be another answer's, too.
        if self._seed or not is_synthesised(call_id):
            self._signatures.keep(call_id, name, signature)
        return {**call, "extra_content": signed(signature)}


def decode_completion(body: bytes, reading: Reading) -> ChatCompletion:
    """The whole answer.

    Raises:
        ProviderBlockedError: if the prompt, or the answer before any content, was blocked.
        ProviderTruncatedError: if the ceiling was reached before any content.
        ProviderServerError: if the model failed at a function call.
        ProviderProtocolError: if the body is no whole answer.
        ProviderError: the one that it tells, if it is an error.
    """
    answer = read_answer(body)
    seed = answer.response_id or ""
    read = [(Progress(index_of(one, at), seed, reading), one) for at, one in enumerate(answer.candidates or ())]
    deltas = [progress.delta_of(one) for progress, one in read]
    end_if_blocked(answer, [progress for progress, _ in read])
    choices = [_choice_of(progress, one, delta) for (progress, one), delta in zip(read, deltas, strict=True)]
    failure = failure_at_end([progress for progress, _ in read])
    if failure is not None:
        raise failure
    usage = usage_in(answer.usage_metadata)
    fields = {**head_of(answer, "chat.completion"), "choices": choices}
    if usage is not None:
        fields["usage"] = usage
    return ChatCompletion(fields, usage)


def end_if_blocked(answer: Answer, choices: Collection[Progress]) -> None:
    """End what has been said by the prompt's block, if `answer` tells one.

    Raises:
        ProviderBlockedError: if nothing has been said.
    """
    block = block_of(answer)
    if block is None:
        return
    if not any(progress.has_content for progress in choices):
        raise block
    for progress in choices:
        progress.block()


def failure_at_end(choices: Collection[Progress]) -> ProviderError | None:
    """The error that an answer is once all of it has come; a block or a cut of one choice spoils no other."""
    if not choices or not all(progress.finish for progress in choices):
        return ProviderProtocolError("Gemini's answer ended before it was finished.")
    has_content = any(progress.has_content for progress in choices)
    failures = [failure_of(progress.finish, has_content=has_content) for progress in choices]
    return next((failure for failure in failures if failure is not None), None)


def head_of(answer: Answer, kind: str) -> dict[str, Any]:
    """The members around the choices. Gemini does not say when it answered, so `created` is not there."""
    head = {"object": kind, "model": answer.model_version or ""}
    return {"id": answer.response_id, **head} if answer.response_id else head


def index_of(candidate: Candidate, at: int) -> int:
    """The choice that a candidate is; one without an index is what its place says."""
    return at if candidate.index is None else candidate.index


def carries_content(delta: dict[str, Any]) -> bool:
    """Whether a delta holds text, reasoning, a tool call or an image; a signature alone is none of these."""
    return not delta.keys() <= {"role", "extra_content"}


def _choice_of(progress: Progress, candidate: Candidate, delta: dict[str, Any]) -> dict[str, Any]:
    rest = progress.rest()
    if "content" in rest:
        rest["content"] = delta.get("content", "") + rest["content"]
    return {
        "index": progress.index,
        "message": _message_of({**delta, **rest}),
        "logprobs": logprobs_in(candidate),
        "finish_reason": finish_reason(progress.finish, has_calls=progress.has_calls),
    }


def _message_of(delta: dict[str, Any]) -> dict[str, Any]:
    content = None if delta.keys() & {"tool_calls", "images"} else ""
    message = {"role": "assistant", "content": content, "refusal": None, **delta}
    if "tool_calls" in delta:
        # Only the calls of a stream carry an index.
        message["tool_calls"] = [
            {name: member for name, member in call.items() if name != "index"} for call in delta["tool_calls"]
        ]
    return message


def _image_of(blob: Blob) -> dict[str, Any] | None:
    # OpenAI's chat API has no place for images; this one is what gateways and their clients agreed upon.
    if not blob.data or not (blob.mime_type or "").startswith("image/"):
        return None
    return {"type": "image_url", "image_url": {"url": f"data:{blob.mime_type};base64,{blob.data}"}}
