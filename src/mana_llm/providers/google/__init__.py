"""Google's Gemini API, as a provider. Source: docs/sources.md (Gemini)."""

from collections.abc import Sequence
from typing import Final

from mana_llm.providers.failures.messages import messages_of
from mana_llm.providers.google.answer import Reading, decode_completion
from mana_llm.providers.google.embeddings import decode_batches, encode_batches, ignored_members
from mana_llm.providers.google.errors import decode_error
from mana_llm.providers.google.models import decode_list
from mana_llm.providers.google.parts import urls_in
from mana_llm.providers.google.request import encode_body, target_of
from mana_llm.providers.google.signatures import Signatures
from mana_llm.providers.google.stream import GoogleStream
from mana_llm.providers.google.structured import is_structured
from mana_llm.schema.chat import ChatCompletion, ChatRequest
from mana_llm.schema.embeddings import Embeddings, EmbeddingsRequest
from mana_llm.schema.errors import ProviderError
from mana_llm.schema.models import Model
from mana_llm.schema.wire import Call, Endpoint, Headers, Origin

_KEY_CHARS_MIN: Final = 16
# Source: ai.google.dev, ListModelsRequest: 50 models if no size is given, 1000 at most.
_MODELS: Final = "/v1beta/models?pageSize=1000"


class Google:
    """Speaks to generativelanguage.googleapis.com, or what stands in for it.

    `prefix` is what a proxy puts before `/v1beta`. The key travels in a header and never in a URL, because
    URLs are logged by everything on the way.

    Raises:
        ValueError: if the key cannot be a header's value.
    """

    name = "google"
    plain_type = b"application/json"
    stream_type = b"text/event-stream"

    def __init__(self, origin: Origin, prefix: str, key: str) -> None:
        if not (key.isascii() and key.isprintable()):
            raise ValueError("the Google key has characters that no key has")
        self._origin = origin
        self._base = prefix.rstrip("/")
        self._key = key
        auth = b"x-goog-api-key: %b\r\n" % key.encode()
        self._headers = b"Content-Type: application/json\r\n" + auth
        self._signatures = Signatures()
        self._models = Endpoint(origin, "GET", self._base + _MODELS, auth)

    def encode_chat(self, request: ChatRequest, model: str) -> Call:
        """The call that asks `model` for `request`; nothing is sent that the request does not say.

        Raises:
            ProviderCapabilityError: if a field that changes the meaning has no place in the API.
            RequestError: if a field cannot be read; `param` names it.
        """
        verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        body, ignored = encode_body(request, model, self._signatures)
        return Call(self._asking(model, verb), body, ignored)

    def questions(self, request: ChatRequest, model: str) -> tuple[()]:
        """Nothing: the API judges by itself."""
        return ()

    def judge(self, request: ChatRequest, model: str, facts: Sequence[bytes | None]) -> None:
        """Nothing: the API judges by itself."""

    def urls_to_fetch(self, request: ChatRequest) -> tuple[str, ...]:
        """The http(s) URLs of images, each once. Raises as `encode_chat` where the messages cannot be read."""
        return tuple(dict.fromkeys(urls_in(messages_of(request))))

    def decode_chat(self, body: bytes, request: ChatRequest) -> ChatCompletion:
        """The whole answer. Raises the ProviderError that the body says or is."""
        return decode_completion(body, self._reading(request))

    def open_stream(self, request: ChatRequest, model: str = "") -> GoogleStream:
        """A decoder for the streamed answer to `request`."""
        return GoogleStream(self._reading(request))

    def _reading(self, request: ChatRequest) -> Reading:
        return Reading(self._signatures, is_structured(request.fields))

    def encode_embeddings(self, request: EmbeddingsRequest, model: str) -> list[Call]:
        """The calls that embed the texts, a hundred at a time.

        Raises:
            ProviderCapabilityError: if tokens were given.
        """
        endpoint = self._asking(model, "batchEmbedContents")
        ignored = ignored_members(request)
        return [Call(endpoint, body, ignored) for body in encode_batches(request, model)]

    def decode_embeddings(self, bodies: list[bytes], request: EmbeddingsRequest) -> Embeddings:
        """The answers to those calls as one. Raises the ProviderError that they say or are."""
        return decode_batches(bodies, request)

    def _asking(self, model: str, verb: str) -> Endpoint:
        return Endpoint(self._origin, "POST", self._base + target_of(model, verb), self._headers)

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        """Classify an answer that is not the one hoped for; never raises."""
        # Google's messages quote keys ("Consumer 'api_key:...' has been suspended"), so ours is blotted out.
        return decode_error(status, headers, self._without_key(body))

    def _without_key(self, body: bytes) -> bytes:
        # A short key is a test's, and may be a part of ordinary words.
        return body.replace(self._key.encode(), b"***") if len(self._key) >= _KEY_CHARS_MIN else body

    def encode_models(self) -> Call:
        """The call for the models that the key can use, on one page of the largest size."""
        return Call(self._models)

    def decode_models(self, body: bytes) -> list[Model]:
        """The models that chat or embed. Raises ProviderProtocolError if it is no list."""
        return decode_list(body)
