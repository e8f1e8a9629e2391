"""Ollama's native API, as a provider. Source: ollama/ollama docs/api.md and api/types.go; DIALECTS 2."""

from typing import Final

from mana_llm.providers.ollama.answer import decode_completion
from mana_llm.providers.ollama.errors import decode_error
from mana_llm.providers.ollama.models import decode_list
from mana_llm.providers.ollama.request import encode_body, ignored_fields
from mana_llm.providers.ollama.stream import OllamaStream
from mana_llm.schema.chat import ChatCompletion, ChatRequest
from mana_llm.schema.errors import ProviderError
from mana_llm.schema.models import Model
from mana_llm.schema.wire import Call, Endpoint, Headers, Origin

_JSON: Final = b"Content-Type: application/json\r\n"


class Ollama:
    r"""Speaks to one Ollama server, local or ollama.com.

    `prefix` is what a proxy puts before `/api` (`/ollama`). `headers` are rendered lines that go with every
    call (`b"Authorization: Bearer ...\r\n"`); a local server needs none.
    """

    name = "ollama"
    plain_type = b"application/json"
    stream_type = b"application/x-ndjson"

    def __init__(self, origin: Origin, prefix: str = "", headers: bytes = b"") -> None:
        base = prefix.rstrip("/")
        self._chat = Endpoint(origin, "POST", f"{base}/api/chat", _JSON + headers)
        self._models = Endpoint(origin, "GET", f"{base}/api/tags", headers)

    def encode_chat(self, request: ChatRequest, model: str) -> Call:
        """The call that asks `model` for `request`; nothing is sent that the request does not say.

        Raises:
            ProviderCapabilityError: if a field that changes the meaning has no place in the API.
            RequestError: if a field cannot be read; `param` names it.
        """
        return Call(self._chat, encode_body(request, model), ignored_fields(request))

    def decode_chat(self, body: bytes) -> ChatCompletion:
        """The whole answer. Raises the ProviderError that the body says or is."""
        return decode_completion(body)

    def open_stream(self) -> OllamaStream:
        """A decoder for one streamed answer."""
        return OllamaStream()

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        """Classify an answer that is not the one hoped for; never raises."""
        return decode_error(status, headers, body)

    def encode_models(self) -> Call:
        """The call for the models that the server has."""
        return Call(self._models)

    def decode_models(self, body: bytes) -> list[Model]:
        """The models of the list. Raises ProviderProtocolError if it is none."""
        return decode_list(body)
