"""Ollama's native API, as a provider. Source: ollama/ollama docs/api.md and api/types.go; docs/sources.md (Ollama)."""

from typing import Final

from mana_llm.kit.fences import FenceStripper
from mana_llm.kit.lru import LRU
from mana_llm.providers.failures.messages import messages_of
from mana_llm.providers.ollama.abilities import judge, needs_of, read_facts
from mana_llm.providers.ollama.answer import Answer, decode_completion, read_answer
from mana_llm.providers.ollama.context import was_cut
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
from mana_llm.schema.wire import Call, Endpoint, Headers, Origin, encode_json

WINDOWS_MAX: Final = 1_000
"""Models whose context is remembered."""

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

    def question(self, request: ChatRequest, model: str) -> Call | None:
        """What the model can do, if the request needs more than text. Raises as `encode_chat`."""
        return Call(self._show, encode_json({"model": model})) if needs_of(request) else None

    def judge(self, request: ChatRequest, model: str, facts: bytes | None) -> None:
        """Judge by what the server says of the model, or by its name where that is nothing.

        Raises:
            ProviderCapabilityError: if the model cannot call tools, see, hear or think, as the request needs.
        """
        known = read_facts(facts)
        if known.context_tokens is not None:
            self._windows.put(model, known.context_tokens)
        judge(needs_of(request), model, known)

    def urls_to_fetch(self, request: ChatRequest) -> tuple[str, ...]:
        """The http(s) URLs of images: Ollama takes only bytes. Raises as `encode_chat`."""
        return urls_in(messages_of(request))

    def decode_chat(self, body: bytes, request: ChatRequest) -> ChatCompletion:
        """The whole answer. Raises the ProviderError that the body says or is."""
        answer = read_answer(body)
        completion = decode_completion(answer, _fences_for(request))
        completion.prompt_cut = self._is_cut(answer, request)
        return completion

    def open_stream(self, request: ChatRequest) -> OllamaStream:
        """A decoder for one streamed answer; its `prompt_cut` says at the end whether the prompt was cut."""
        return OllamaStream(_fences_for(request), lambda answer: self._is_cut(answer, request))

    def _is_cut(self, answer: Answer, request: ChatRequest) -> bool:
        return was_cut(request.messages(), answer.prompt_eval_count, self._windows.get(answer.model or ""))

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
