"""The models that the simulated upstreams list."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from mana_llm.simulator.script import Json


class LocalModel(msgspec.Struct, frozen=True):
    """A model as Ollama lists it; `size` is in bytes, `context` in tokens."""

    name: str
    family: str
    parameters: str
    size: int
    context: int
    capabilities: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Sixty-four hexadecimal digits that depend on the name alone."""
        return hashlib.sha256(self.name.encode()).hexdigest()


LOCAL_MODELS: Final = (
    LocalModel("gemma3:4b", "gemma3", "4.3B", 3_338_801_804, 131_072, ("completion", "vision")),
    LocalModel("gemma3:12b", "gemma3", "12.2B", 8_149_190_253, 131_072, ("completion", "vision")),
    LocalModel("qwen2.5:7b", "qwen2", "7.6B", 4_683_087_332, 32_768, ("completion", "tools")),
    LocalModel("qwen3:8b", "qwen3", "8.2B", 5_225_388_164, 40_960, ("completion", "tools", "thinking")),
    LocalModel("gpt-oss:20b", "gptoss", "20.9B", 13_793_441_244, 131_072, ("completion", "tools", "thinking")),
    LocalModel("nomic-embed-text:latest", "nomic-bert", "137M", 274_302_450, 2_048, ("embedding",)),
)
CLOUD_MODELS: Final = (
    ("gpt-4o-mini", "system"),
    ("gpt-4o", "system"),
    ("openai/gpt-oss-20b", "OpenAI"),
    ("gemma3:4b", "library"),
    ("text-embedding-3-small", "system"),
)
GEMINI_MODELS: Final = (
    ("gemini-3.5-flash-lite", "generateContent"),
    ("gemini-2.5-flash", "generateContent"),
    ("gemini-3.8-flash", "generateContent"),
    ("gemini-embedding-001", "embedContent"),
)
# Models of these families think; the first three do in Ollama without being asked.
# Source: docs/sources.md.
THINKING_NAMES: Final = ("qwen3", "deepseek-r1", "gpt-oss", "openai/gpt-oss", "deepseek-v4", "sim")
# Names that every simulated upstream claims not to know.
UNKNOWN_NAMES: Final = ("missing", "nonexistent", "no-such")
# Vector sizes by model name prefix. Source: docs/sources.md.
VECTOR_SIZES: Final = (
    ("text-embedding-3-large", 3072),
    ("text-embedding-", 1536),
    ("gemini-embedding", 3072),
    ("all-minilm", 384),
)


def vector_size(model: str) -> int:
    """How many numbers the model's vectors have."""
    return next((size for prefix, size in VECTOR_SIZES if model.startswith(prefix)), 768)


def thinks(model: str) -> bool:
    """Whether the model can think."""
    return model.startswith(THINKING_NAMES)


def unknown(model: str) -> bool:
    """Whether the upstream is to say that it has no such model."""
    return model.rsplit("/", 1)[-1].startswith(UNKNOWN_NAMES)


def details(model: LocalModel) -> Json:
    """Ollama's `details` object."""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameters,
        "quantization_level": "Q4_K_M",
    }
