"""What a request needs of a model, and whether the model has it. Source: docs/sources.md (Ollama).

Ollama answers /api/show with the model's capabilities. Where it does not answer, or is too old to say
(`capabilities` came with 0.6.4), the name decides: the patterns are the families of Ollama's library that carry
the label. They are looked up only then, so that an old list harms no new model of a server that can be asked.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from mana_llm.providers.failures.fields import read
from mana_llm.providers.failures.messages import messages_of
from mana_llm.providers.ollama.images import kinds_of
from mana_llm.providers.ollama.tools import offers_tools
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import ProviderCapabilityError
from mana_llm.schema.wire import JSONDecodeError, decode_json


class Need(msgspec.Struct, frozen=True):
    """Something that only some models can: Ollama's word for it, ours, and the field that asks for it."""

    capability: str
    what: str
    param: str
    example: str


class Facts(msgspec.Struct):
    """What /api/show tells. `capabilities` is None where the server does not know them."""

    capabilities: list[str] | None = None
    model_info: dict[str, Any] | None = None
    parameters: str | None = None

    @property
    def is_context_set(self) -> bool:
        """Whether the model's own file sets its window, so that requests which set none get this one."""
        return _NUM_CTX.search(self.parameters or "") is not None

    @property
    def context_tokens(self) -> int | None:
        """The window that a prompt has to fit: the model's own, or a smaller one set for it; None if untold."""
        lengths = [value for name, value in (self.model_info or {}).items() if _CONTEXT.fullmatch(name)]
        if chosen := _NUM_CTX.search(self.parameters or ""):
            lengths.append(int(chosen[1]))
        return min((length for length in lengths if isinstance(length, int) and length > 0), default=None)


_CONTEXT: Final = re.compile(r"[^.]+\.context_length")
_NUM_CTX: Final = re.compile(r"^num_ctx\s+(\d{1,9})$", re.MULTILINE)
_TOOLS: Final = Need("tools", "call tools", "tools", "qwen3:8b")
_VISION: Final = Need("vision", "see images", "messages", "gemma3:12b")
_AUDIO: Final = Need("audio", "hear audio", "messages", "gemma4:e4b")
_THINKING: Final = Need("thinking", "think", "reasoning_effort", "qwen3:8b")

# Source: ollama.com/library, the models labelled tools, vision and thinking. Prefixes of names without
# namespace; the longest names stand in full where a family has both kinds.
_PATTERNS: Final = {
    "tools": re.compile(
        r"(?:(?:meta-)?llama-?3\.[1-9](?!.*vision)|llama4|qwen2\.5(?!vl|-?omni)|qwen2(?=[:-]|$)|qwen3|qwq|"
        r"mistral|mixtral|ministral|devstral|magistral|command-r|command-a|command-r7b|firefunction|hermes3|"
        r"nous-hermes-?3|granite3|granite4|gpt-oss|deepseek-v3|deepseek-v4|smollm2|nemotron|athene-v2|aya-expanse|"
        r"cogito|phi4-mini|kimi-k|glm-4\.[5-9]|glm-[5-9]|minimax-m|functiongemma|gemma4|llama3-groq-tool-use)"
    ),
    "vision": re.compile(
        r"(?:llava|bakllava|llama3\.2-vision|llama4|gemma3(?!n|.*\b(?:1b|270m))|gemma4|qwen2\.5-?vl|qwen3-?vl|"
        r"qwen3\.[5-9]|minicpm-v|moondream|mistral-small3\.[12]|mistral-small-3|mistral-large-3|ministral-3|"
        r"devstral-small-2|granite3\.2-vision|deepseek-ocr|kimi-k2\.[5-9])"
    ),
    "audio": re.compile(r"gemma4:e[24]b"),
    "thinking": re.compile(
        r"(?:qwen3(?!-coder|.*instruct)|qwq|deepseek-r1|deepseek-v3\.[1-9]|deepseek-v4|gpt-oss|magistral|cogito|"
        r"nemotron-3|glm-4\.[5-9]|glm-[5-9]|minimax-m|kimi-k2-thinking|kimi-k2\.[5-9]|gemma4)"
    ),
}


def needs_of(request: ChatRequest) -> list[Need]:
    """What the request needs beyond text.

    Raises:
        RequestError: if a field that decides it cannot be read.
        ProviderCapabilityError: if a message is of a kind that is not read here.
    """
    needs = []
    if offers_tools(request.fields):
        needs.append(_TOOLS)
    kinds = kinds_of(messages_of(request))
    if "image_url" in kinds:
        needs.append(_VISION)
    if "input_audio" in kinds:
        needs.append(_AUDIO)
    if read(request.fields, "reasoning_effort", str) not in (None, "none"):
        needs.append(_THINKING)
    return needs


def read_facts(body: bytes | None) -> Facts:
    """The facts in an answer of /api/show; nothing is known if there is none or it cannot be read."""
    if body is None:
        return Facts()
    try:
        facts: Facts = decode_json(body, Facts)
    except JSONDecodeError:
        return Facts()
    return facts


def judge(needs: Iterable[Need], model: str, facts: Facts) -> None:
    """Let a model through that can do what is needed.

    Raises:
        ProviderCapabilityError: for the first thing that it cannot; the message says what to do.
    """
    for need in needs:
        if facts.capabilities is not None and need.capability not in facts.capabilities:
            raise _incapable(need, f"The model '{model}' cannot {need.what}: its server lists no '{need.capability}'.")
        if facts.capabilities is None and not _PATTERNS[need.capability].match(_family(model)):
            raise _incapable(need, f"The model '{model}' is not known to {need.what}, and its server does not say.")


def _family(model: str) -> str:
    """The name without registry and namespace, lower-case: `hf.co/bartowski/Llama-3.2-GGUF` is `llama-3.2-gguf`."""
    return model.lower().rpartition("/")[2]


def _incapable(need: Need, problem: str) -> ProviderCapabilityError:
    advice = f"Choose one that can, such as '{need.example}', or leave '{need.param}' out."
    if need.param == "messages":
        advice = f"Choose one that can, such as '{need.example}', or leave these parts out."
    return ProviderCapabilityError(f"{problem} {advice}", param=need.param)
