"""Turns OpenAI's messages into Gemini's contents and system instruction. Source: docs/sources.md (Gemini).

Gemini knows two roles, and a system instruction beside the conversation: system and developer messages go
there in their order, wherever they stood. Neighbours of one role become one turn. A conversation that begins
with the assistant is sent as it is: Gemini asks for a user's turn first, but to invent one would put words in
a mouth.

An assistant's message with calls is a step: its calls are parts of the model's turn, and the tool messages
after it become parts of the user's turn, in the order of the calls. A call's id goes back if it is not our
own making, and a result says its function's name, which OpenAI's does not.
"""

from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import cannot
from mana_llm.providers.failures.messages import unknown_role
from mana_llm.providers.google.generation import generation_of
from mana_llm.providers.google.parts import Json, Parts
from mana_llm.providers.google.signatures import DUMMY, Signatures, signature_in
from mana_llm.providers.toolcalls import is_synthesised
from mana_llm.schema.chat import Function, Message, ToolCall
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import JSONDecodeError, decoder_of

_ROLES: Final = {"user": "user", "assistant": "model"}
_INSTRUCTS: Final = ("system", "developer")
_SHOWN_CHARS_MAX: Final = 80
_decode_object: Final = decoder_of(dict[str, msgspec.Raw])


class _Asked(msgspec.Struct):
    """A call that awaits its result: the function's name, and the call's place among all."""

    name: str
    order: int


class Conversation:
    """One request's messages on their way to `model`: add each in turn, then take the `body`."""

    def __init__(self, model: str, parts: Parts, signatures: Signatures) -> None:
        self._model = model
        self._parts = parts
        self._signatures = signatures
        # Source: They are optional on 2.5; older models and Gemma give none and may not know them.
        self._takes_signatures = generation_of(model) >= (2, 5)
        # From 3 on signatures are needed, and results of tools may be more than text.
        self._is_recent = generation_of(model) >= (3, 0)
        self._instructions: list[Json] = []
        self._contents: list[Json] = []
        self._asked: dict[str, list[_Asked]] = {}
        self._asked_count = 0
        self._results: list[tuple[int, list[Json]]] = []

    def add(self, message: Message, place: str) -> None:
        """Take the next message; `place` is where it stands, such as `messages[2]`.

        Raises:
            RequestError: if it cannot be read, or is the result of a call that nobody made.
            ProviderCapabilityError: if it is or holds something that Gemini does not take.
        """
        if message.role == "tool":
            self._add_result(message, place)
            return
        self._end_step()
        if message.role in _INSTRUCTS:
            self._add_instructions(message, place)
        elif message.role == "assistant":
            self._add_answer(message, place)
        elif message.role == "user":
            self._add_turn("user", self._parts.of(message, place))
        else:
            raise unknown_role(message, place)

    def body(self) -> Json:
        """The members `contents` and `systemInstruction`.

        Raises:
            ProviderCapabilityError: if there are instructions only.
        """
        self._end_step()
        if not self._contents:
            raise cannot("messages", "an answer to instructions alone; it needs a user's message")
        body: Json = {"contents": self._contents}
        if self._instructions:
            body["systemInstruction"] = {"parts": self._instructions}
        return body

    def _add_instructions(self, message: Message, place: str) -> None:
        parts = self._parts.of(message, place)
        if any("text" not in part for part in parts):
            raise cannot(f"{place}.content", "instructions that are no text")
        self._instructions += parts

    def _add_answer(self, message: Message, place: str) -> None:
        if message.function_call is not None:
            raise cannot(f"{place}.function_call", "calls in their old form instead of tool_calls")
        # An answer may be empty (a refusal, one that was cut); Gemini wants no part without anything in it.
        parts = [part for part in self._parts.of(message, place) if part.get("text") != ""]
        signature = signature_in(message.extra_content) if self._takes_signatures else None
        if signature is not None:
            # Which piece of the text it came on is not known any more, and what is unsigned must not be joined to
            # what is signed. An empty part of its own is how Gemini itself sends it at the end of a stream.
            parts.append({"text": "", "thoughtSignature": signature})
        self._add_turn("model", parts)
        self._add_calls(message.tool_calls or [], place)

    def _add_calls(self, calls: list[ToolCall], place: str) -> None:
        asked: dict[str, list[_Asked]] = {}
        parts = []
        for index, call in enumerate(calls):
            part = _call_part(call, f"{place}.tool_calls[{index}]")
            if self._takes_signatures and (signature := self._signatures.of(call)):
                part["thoughtSignature"] = signature
            asked.setdefault(call.id or "", []).append(_Asked(part["functionCall"]["name"], self._asked_count))
            self._asked_count += 1
            parts.append(part)
        if parts and self._is_recent and not self._has_calls():
            # The first call of a step must have one, and only that.
            parts[0].setdefault("thoughtSignature", DUMMY)
        # An id that is used again means the newer call.
        self._asked.update(asked)
        self._add_turn("model", parts)

    def _has_calls(self) -> bool:
        """Whether the turn that is being written is the model's and has called already."""
        last = self._contents[-1] if self._contents else {"role": "user"}
        return last["role"] == "model" and any("functionCall" in part for part in last["parts"])

    def _add_result(self, message: Message, place: str) -> None:
        call_id = message.tool_call_id or ""
        asked = self._asked.get(call_id)
        if not asked:
            shown = call_id[:_SHOWN_CHARS_MAX]
            raise RequestError(
                f"'{place}.tool_call_id' {shown!r} is the id of no call before it.", param=f"{place}.tool_call_id"
            )
        call = asked.pop(0) if len(asked) > 1 else asked[0]
        parts = self._parts.of(message, place)
        texts = [part["text"] for part in parts if "text" in part]
        blobs = [part for part in parts if "text" not in part]
        if blobs and not self._is_recent:
            # Source: docs/sources.md (Gemini): functionResponse.parts are for Gemini 3 and later.
            raise cannot(f"{place}.content", "results of tools that are no text")
        response: Json = {"name": call.name, "response": _response_of("\n".join(texts))}
        if call_id and not is_synthesised(call_id):
            response = {"id": call_id, **response}
        if blobs:
            response["parts"] = blobs
        self._results.append((call.order, [{"functionResponse": response}]))

    def _end_step(self) -> None:
        for _, parts in sorted(self._results, key=lambda result: result[0]):
            self._add_turn("user", parts)
        self._results = []

    def _add_turn(self, role: str, parts: list[Json]) -> None:
        if not parts:
            return
        if self._contents and self._contents[-1]["role"] == role:
            self._contents[-1]["parts"] += parts
        else:
            self._contents.append({"role": role, "parts": parts})


def _call_part(call: ToolCall, place: str) -> Json:
    if call.type != "function":
        raise cannot(place, f"calls of the type '{call.type[:40]}'")
    function = call.function or Function()
    if not function.name:
        raise RequestError(f"'{place}.function.name' is missing.", param=f"{place}.function.name")
    called: Json = {"name": function.name, "args": _arguments(function.arguments, f"{place}.function.arguments")}
    if call.id and not is_synthesised(call.id):
        called = {"id": call.id, **called}
    return {"functionCall": called}


def _arguments(text: str | None, place: str) -> Any:
    """The object that a JSON text is, as it was written; nothing at all is no arguments."""
    if not text or not text.strip():
        return {}
    data = text.encode(errors="replace")
    try:
        _decode_object(data)
    except JSONDecodeError as error:
        raise RequestError(f"'{place}' must be a JSON object: {error}.", param=place) from error
    return msgspec.Raw(data)


def _response_of(text: str) -> Any:
    """The object that Gemini wants: a result that is one goes as it is, any other text as `output`."""
    if text.lstrip()[:1] == "{":
        data = text.encode(errors="replace")
        try:
            _decode_object(data)
        except JSONDecodeError:
            return {"output": text}
        return msgspec.Raw(data)
    return {"output": text}
