"""The OpenAI-compatible clouds, a row each: what is special about them, and where that is documented.

A row's name begins the names of its settings (`<name>_api_key`, `<name>_base_url`), which hold where it is.
Reasoning is sent back under the name that a server takes: Mistral refuses it (a closed schema), Groq and Cerebras
take `reasoning` alone, DeepSeek, Moonshot and Fireworks `reasoning_content` alone, and the first two insist on it.
None gets `extra_content`: thought signatures mean something to Google's own API alone, and strict servers answer 422.
Embeddings of tokens are left to the server unless its documentation knows texts only.
`max_tokens` stands for `max_completion_tokens` where only the former is documented.
"""

from types import MappingProxyType
from typing import Final

import msgspec

from mana_llm.providers.compatible_quirks import EmbeddingQuirks, Quirks


class Row(msgspec.Struct, frozen=True):
    """One cloud: its name, its quirks, and where they are documented."""

    name: str
    source: str
    quirks: Quirks = Quirks()

    @property
    def key_setting(self) -> str:
        """The setting that holds its key."""
        return f"{self.name}_api_key"

    @property
    def base_url_setting(self) -> str:
        """The setting that says where it is."""
        return f"{self.name}_base_url"


_OLD_CEILING: Final = MappingProxyType({"max_completion_tokens": "max_tokens"})

# What answers of OpenAI's, OpenRouter's and ours have beside what was said, and clients send back as they got it.
# Strict servers refuse every member that they do not know, null or not.
_ANSWERED: Final = ("name", "refusal", "annotations", "images", "reasoning_details")

_TEXTS_ONLY: Final = EmbeddingQuirks(tokens=False)

ROWS: Final = (
    Row(
        name="openai",
        source="github.com/openai/openai-openapi, openapi.json 2.3.0; recorded 400 of gpt-5-nano for max_tokens",
        # Reasoning models, and what was tuned from them. Not gpt-oss, which other servers have.
        quirks=Quirks(new_ceiling=("o1", "o3", "o4", "gpt-5", "gpt-6", "gpt-7", "gpt-8", "gpt-9")),
    ),
    Row(
        name="openrouter",
        # Usage rides on the finish chunk and role and content:"" repeat in every delta; comments are sent as
        # keep-alive. All three are put right by the stream's decoder and encoder for everybody.
        source="openrouter.ai/docs, recorded traffic of 2026-08",
    ),
    Row(
        name="groq",
        # Usage comes twice; an error ends the stream without [DONE].
        source="console.groq.com/docs/openai, recorded traffic of 2026-08; groq-python"
        " ChatCompletionAssistantMessageParam and janhq/jan#8136 for reasoning,"
        " SimonSchubert/Kai#265 and ServiceStack/llms#17 for members of messages",
        # Answers 400 to `n` other than 1 too, which changes the answer: that is left to it to say.
        quirks=Quirks(
            drops=("logprobs", "top_logprobs", "logit_bias"),
            message_drops=_ANSWERED,
            reasoning="reasoning",
            embeddings=None,
        ),
    ),
    Row(
        name="together",
        source="docs.together.ai (embeddings take a string or strings), recorded traffic of 2026-08",
        quirks=Quirks(finish_reasons=MappingProxyType({"eos": "stop"}), renames=_OLD_CEILING, embeddings=_TEXTS_ONLY),
    ),
    Row(
        name="mistral",
        source="docs.mistral.ai/api, recorded traffic of 2026-08; BerriAI/litellm#30835 and charmbracelet/crush#1590"
        " for reasoning, Gitlawb/openclaude#739 for store; 257 inputs were too many (recorded);"
        " mistralai/mistral-vibe#1075 for ids of calls; BerriAI/litellm#30882 and Gage-Technologies/mistral-go#2"
        " for members of messages",
        quirks=Quirks(
            finish_reasons=MappingProxyType({"model_length": "length"}),
            renames=MappingProxyType({"max_completion_tokens": "max_tokens", "seed": "random_seed"}),
            tool_choices=MappingProxyType({"required": "any"}),
            drops=("store", "user", "safety_identifier"),
            message_drops=_ANSWERED,
            call_ids="[a-zA-Z0-9]{9}",
            reasoning="refused",
            embeddings=EmbeddingQuirks(
                renames=MappingProxyType({"dimensions": "output_dimension"}), inputs_max=256, tokens=False
            ),
        ),
    ),
    Row(
        name="deepseek",
        source="api-docs.deepseek.com (create-chat-completion, guides/thinking_mode), recorded traffic of 2026-08",
        quirks=Quirks(
            finish_reasons=MappingProxyType({"insufficient_system_resource": "error"}),
            renames=_OLD_CEILING,
            reasoning="reasoning_content",
            wants_thoughts=True,
            embeddings=None,
        ),
    ),
    Row(
        name="xai",
        # Its completion tokens leave out the reasoning; they are counted as OpenAI's for everybody.
        source="docs.x.ai/docs/api-reference, recorded traffic of 2026-03",
    ),
    Row(
        name="fireworks",
        source="docs.fireworks.ai/guides/reasoning and /api-reference; earendil-works/pi#4514 for reasoning",
        quirks=Quirks(reasoning="reasoning_content"),
    ),
    Row(
        name="cerebras",
        source="inference-docs.cerebras.ai, a recorded list of models; QwenLM/qwen-code#11045 for reasoning",
        quirks=Quirks(reasoning="reasoning", embeddings=None),
    ),
    Row(
        name="perplexity",
        # Chat stands without a version, models and embeddings under /v1.
        source="docs.perplexity.ai/docs/sonar/openai-compatibility, recorded traffic of 2026-08",
        quirks=Quirks(renames=_OLD_CEILING, embeddings=EmbeddingQuirks(int8=True, tokens=False), listing="/v1"),
    ),
    Row(
        name="nvidia",
        source="docs.api.nvidia.com/nim/reference (embeddings too); litellm llms/nvidia_nim/chat for max_tokens",
        quirks=Quirks(renames=_OLD_CEILING, embeddings=_TEXTS_ONLY),
    ),
    Row(
        name="sambanova",
        source="docs.sambanova.ai/cloud/api-reference; litellm llms/sambanova/chat.py for max_tokens",
        quirks=Quirks(renames=_OLD_CEILING),
    ),
    Row(
        name="deepinfra",
        source="deepinfra.com/docs/advanced/openai_api; litellm llms/deepinfra/chat for max_tokens;"
        " danny-avila/rag_api#115 for tokens",
        quirks=Quirks(renames=_OLD_CEILING, embeddings=_TEXTS_ONLY),
    ),
    Row(
        name="hyperbolic",
        source="docs.hyperbolic.xyz, recorded traffic of 2025 behind Hugging Face's router",
        quirks=Quirks(renames=_OLD_CEILING),
    ),
    Row(
        name="moonshot",
        # Counts usage inside the choice, which the stream's decoder knows; has no `required` (answers 400). Its calls'
        # ids (`functions.<name>:<number>`) are the same in many conversations: their reasoning cannot be kept by them.
        source="platform.moonshot.ai/docs (use-kimi-k2-thinking-model, migrating-from-openai-to-kimi)",
        quirks=Quirks(reasoning="reasoning_content", embeddings=None),
    ),
    Row(
        name="huggingface",
        source="huggingface.co/docs/inference-providers, recorded traffic of 2026-08",
        quirks=Quirks(embeddings=None),
    ),
)
