"""Ollama's native API, as a provider. Source: ollama/ollama docs/api.md and api/types.go; docs/sources.md (Ollama)."""

from collections.abc import Sequence
from typing import Final

from mana_llm.kit.fences import FenceStripper
from mana_llm.kit.lru import LRU
from mana_llm.providers.failures.messages import messages_of
from mana_llm.providers.ollama.abilities import Facts, judge, needs_of, read_facts
from mana_llm.providers.ollama.answer import Answer, decode_completion, read_answer
from mana_llm.providers.ollama.context import can_be_cut, full_name, loaded_context, outgrows, was_cut
from mana_llm.providers.ollama.embeddings import decode_vectors, encode_inputs, ignored_members
from mana_llm.providers.ollama.errors import decode_error
from mana_llm.providers.ollama.images import urls_in
from mana_llm.providers.ollama.models import decode_list
from mana_llm.providers.ollama.request import encode_body, ignored_fields, wants_structure
from mana_llm.providers.ollama.stream import OllamaStream
from mana_llm.schema.chat import ChatCompletion, ChatRequest
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import ProviderError
from mana_llm.schema.models import Model
from mana_llm.schema.wire import Call, Endpoint, Headers, Origin, Question, encode_json

WINDOWS_MAX: Final = 1_000
"""Models whose context is remembered."""
SHOWN_FRESH_S: Final = 300.0
"""Seconds that /api/show is believed; a model may be pulled anew under its name."""
LOADED_FRESH_S: Final = 5.0
"""Seconds that /api/ps is believed; models come and go, and another client may load one with another context."""

_JSON: Final = b"Content-Type: application/json\r\n"


class Ollama:
    r"""Speaks to one Ollama server, local or ollama.com.

    `prefix` is what a proxy puts before `/api` (`/ollama`). `headers` are rendered lines that go with every
    call (`b"Authorization: Bearer ...\r\n"`); a local server needs none. Of what the server tells about its
    models, their contexts are remembered, to see when a prompt was cut.
    """

    name = "ollama"
    plain_type = b"application/json"
    stream_type = b"application/x-ndjson"

    def __init__(self, origin: Origin, prefix: str = "", headers: bytes = b"") -> None:
        base = prefix.rstrip("/")
        self._chat = Endpoint(origin, "POST", f"{base}/api/chat", _JSON + headers)
        self._show = Endpoint(origin, "POST", f"{base}/api/show", _JSON + headers)
        self._running = Endpoint(origin, "GET", f"{base}/api/ps", headers)
        self._embed = Endpoint(origin, "POST", f"{base}/api/embed", _JSON + headers)
        self._models = Endpoint(origin, "GET", f"{base}/api/tags", headers)
        self._windows: LRU[str, int] = LRU(WINDOWS_MAX)

    def encode_chat(self, request: ChatRequest, model: str) -> Call:
        """The call that asks `model` for `request`; nothing is sent that the request does not say.

        Raises:
            ProviderCapabilityError: if a field that changes the meaning has no place in the API.
            RequestError: if a field cannot be read; `param` names it.
        """
        return Call(self._chat, encode_body(request, model), ignored_fields(request, model))

    def questions(self, request: ChatRequest, model: str) -> tuple[Question, ...]:
        """What the model can do, if the request needs more than text, and its contexts, if the prompt may be cut.

        A short text is asked for without any question. Raises as `encode_chat`.
        """
        needs = needs_of(request)
        # An image by URL is short, and hundreds of tokens.
        is_long = can_be_cut(request.fields) or (bool(needs) and any(need.param == "messages" for need in needs))
        if not needs and not is_long:
            return ()
        shown = Question(Call(self._show, encode_json({"model": model})), SHOWN_FRESH_S, needed=bool(needs))
        return (shown, Question(Call(self._running), LOADED_FRESH_S, needed=False)) if is_long else (shown,)

    def judge(self, request: ChatRequest, model: str, facts: Sequence[bytes | None]) -> None:
        """Judge by what the server says of the model, or by its name where that is nothing.

        Raises:
            ProviderCapabilityError: if the model cannot call tools, see, hear or think, as the request needs.
        """
        shown, loaded = (*facts, None, None)[:2]
        known = read_facts(shown)
        self._note_window(full_name(model), known, loaded_context(loaded, model))
        judge(needs_of(request), model, known)

    def _note_window(self, name: str, known: Facts, loaded: int | None) -> None:
        # What the model's file sets is in force for every request of ours, whatever was loaded by others; else a
        # model that is not loaded will be with the context it had, and that is never more than its maximum.
        window = known.context_tokens if known.is_context_set else loaded or self._windows.get(name)
        window = window or known.context_tokens
        if window is not None:
            self._windows.put(name, window)

    def urls_to_fetch(self, request: ChatRequest) -> tuple[str, ...]:
        """The http(s) URLs of images: Ollama takes only bytes. Raises as `encode_chat`."""
        return urls_in(messages_of(request))

    def decode_chat(self, body: bytes, request: ChatRequest) -> ChatCompletion:
        """The whole answer. Raises the ProviderError that the body says or is."""
        answer = read_answer(body)
        completion = decode_completion(answer, _fences_for(request))
        completion.prompt_cut = self._is_cut(answer, request)
        return completion

    def open_stream(self, request: ChatRequest, model: str = "") -> OllamaStream:
        """A decoder for one streamed answer; its `prompt_cut` says whether the prompt was cut: at the end, and at
        once where it cannot fit the context that `model` is known to have.
        """
        decoder = OllamaStream(_fences_for(request), lambda answer: self._is_cut(answer, request))
        if can_be_cut(request.fields):
            window = self._windows.get(full_name(model))
            decoder.prompt_cut = window is not None and outgrows(request.messages(), window)
        return decoder

    def _is_cut(self, answer: Answer, request: ChatRequest) -> bool:
        window = self._windows.get(full_name(answer.model or ""))
        return was_cut(request.messages(), answer.prompt_eval_count, window)

    def encode_embeddings(self, request: EmbeddingsRequest, model: str) -> list[Call]:
        """The calls that embed the inputs, in their order.

        Raises:
            ProviderCapabilityError: if tokens were given.
        """
        ignored = ignored_members(request)
        return [Call(self._embed, body, ignored) for body in encode_inputs(request, model)]

    def decode_embeddings(self, bodies: list[bytes], request: EmbeddingsRequest) -> Embeddings:
        """The vectors, in the order of the inputs. Raises the ProviderError that a body says or is."""
        return decode_vectors(bodies, request)

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        """Classify an answer that is not the one hoped for; never raises."""
        return decode_error(status, headers, body)

    def encode_models(self) -> Call:
        """The call for the models that the server has."""
        return Call(self._models)

    def decode_models(self, body: bytes) -> list[Model]:
        """The models of the list. Raises ProviderProtocolError if it is none."""
        return decode_list(body)


def _fences_for(request: ChatRequest) -> FenceStripper | None:
    return FenceStripper() if wants_structure(request.fields) else None
