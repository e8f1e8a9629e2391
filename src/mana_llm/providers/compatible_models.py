"""Models lists of OpenAI-compatible servers: OpenAI's envelope or a bare list, and what else the rows tell.

Source: recorded lists of OpenAI, Groq, OpenRouter, Mistral, DeepSeek, Cerebras, Perplexity, Hugging Face and
llama.cpp; vLLM's and Together's documentation.
"""

from typing import Any, Final

import msgspec

from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.models import Model
from mana_llm.schema.wire import JSONDecodeError, decode_envelope, decoder_of, json_problem

# Theirs to ours; ours are the words of `/api/show`, which says them for local models.
_ABILITIES: Final = {
    "completion_chat": "completion",
    "chat": "completion",
    "language": "completion",
    "embedding": "embedding",
    "function_calling": "tools",
    "tools": "tools",
    "supports_tools": "tools",
    "reasoning": "thinking",
    "vision": "vision",
    "image": "vision",
    "audio": "audio",
}


class _Architecture(msgspec.Struct):
    input_modalities: list[str] | None = None


class _Host(msgspec.Struct):
    context_length: int | None = None
    supports_tools: bool | None = None


class _Meta(msgspec.Struct):
    n_ctx: int | None = None


class _Listed(msgspec.Struct):
    """A row: OpenAI's members, and the names that other servers use for what they tell beside them."""

    id: str
    created: int | float | None = None
    context_window: int | None = None
    context_length: int | None = None
    max_model_len: int | None = None
    max_context_length: int | None = None
    meta: _Meta | None = None
    type: str | None = None
    capabilities: Any = None
    input_modalities: list[str] | None = None
    supported_features: list[str] | None = None
    supported_parameters: list[str] | None = None
    architecture: _Architecture | None = None
    providers: list[_Host] | None = None


_rows: Final = decoder_of(list[_Listed])


def models_of(body: bytes) -> list[Model]:
    """The models.

    Raises:
        ProviderProtocolError: if it is neither an envelope with `data` nor a list of rows with an `id`.
    """
    try:
        text = body.lstrip()
        rows = _rows(text if text[:1] == b"[" else decode_envelope(text)["data"])
    except (KeyError, msgspec.MsgspecError, RecursionError, JSONDecodeError, UnicodeDecodeError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else json_problem(error)
        raise ProviderProtocolError(f"the models list cannot be read: {problem}") from error
    return [Model(row.id, int(row.created or 0), _context(row), _abilities(row), _can_more(row)) for row in rows]


def _context(row: _Listed) -> int | None:
    said = row.context_window or row.context_length or row.max_model_len or row.max_context_length
    if said or row.meta:
        return said or (row.meta.n_ctx if row.meta else None)
    # A router's model has a context at each of its hosts.
    return max((host.context_length or 0 for host in row.providers or ()), default=0) or None


def _can_more(row: _Listed) -> bool:
    """Whether the row tells what kind of model it is, or what goes in, and no more (Together: `type` alone)."""
    return not (row.capabilities or row.supported_features or row.supported_parameters or row.providers)


def _abilities(row: _Listed) -> tuple[str, ...] | None:
    """What the row says that the model can; None if it says nothing of the kind."""
    words = [
        row.type,
        *(row.input_modalities or ()),
        *(row.supported_features or ()),
        *(row.supported_parameters or ()),
    ]
    if isinstance(row.capabilities, dict):
        words += [name for name, can in row.capabilities.items() if can is True]
    if row.architecture:
        words += row.architecture.input_modalities or ()
    if any(host.supports_tools for host in row.providers or ()):
        words.append("supports_tools")
    found = {_ABILITIES[word] for word in words if word in _ABILITIES}
    return tuple(sorted(found)) or None
