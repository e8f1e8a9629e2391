"""The OpenAI-compatible clouds, a row each."""

from types import MappingProxyType
from typing import Final

import msgspec

from mana_llm.providers.compatible import Quirks


class Row(msgspec.Struct, frozen=True):
    """One cloud: the settings that hold its base URL and key, its quirks, and where they are documented."""

    name: str
    base_url_setting: str
    key_setting: str
    source: str
    quirks: Quirks = Quirks()


ROWS: Final = (
    Row(
        name="openai",
        base_url_setting="openai_base_url",
        key_setting="openai_api_key",
        source="github.com/openai/openai-openapi, openapi.json 2.3.0",
    ),
    Row(
        name="openrouter",
        base_url_setting="openrouter_base_url",
        key_setting="openrouter_api_key",
        # Usage rides on the finish chunk and role and content:"" repeat in every delta; comments are sent as
        # keep-alive. All three are put right by the stream's decoder and encoder for everybody.
        source="openrouter.ai/docs, recorded traffic of 2026-08",
    ),
    Row(
        name="groq",
        base_url_setting="groq_base_url",
        key_setting="groq_api_key",
        # Usage comes twice; an error ends the stream without [DONE].
        source="console.groq.com/docs/openai, recorded traffic of 2026-08",
    ),
    Row(
        name="together",
        base_url_setting="together_base_url",
        key_setting="together_api_key",
        source="docs.together.ai, recorded traffic of 2026-08",
        quirks=Quirks(finish_reasons=MappingProxyType({"eos": "stop"})),
    ),
)
