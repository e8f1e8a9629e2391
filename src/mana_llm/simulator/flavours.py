"""How the OpenAI-compatible clouds differ, one row each.

Source: docs/sources.md (OpenAI and its kin) (openai, groq, openrouter, together, deepseek, vllm), recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from mana_llm.simulator.script import UsagePlace


class Flavour(msgspec.Struct, frozen=True, kw_only=True):
    """One OpenAI-compatible upstream; the defaults are OpenAI's own ways.

    `usage_always`: streams carry usage unasked. `error`: openai has all four members, groq no `param`,
    openrouter an int code. `models`: the shape of the list. `refused` fields are a 400 when sent, and so
    is a message's member that is not among `members`, where there are any.
    """

    name: str
    reasoning_field: Literal["", "reasoning", "reasoning_content"] = ""
    usage_place: UsagePlace = "separate"
    usage_always: bool = False
    role_each: bool = False
    comments: int = 0
    stop_word: Literal["stop", "eos"] = "stop"
    whole_tool_calls: bool = False
    error: Literal["openai", "groq", "openrouter"] = "openai"
    models: Literal["list", "array", "rich"] = "list"
    public_models: bool = False
    refused: tuple[str, ...] = ()
    members: frozenset[str] = frozenset()


FLAVOURS: Final[Mapping[str, Flavour]] = MappingProxyType(
    {
        "openai": Flavour(name="openai"),
        "groq": Flavour(
            name="groq",
            reasoning_field="reasoning",
            usage_place="both",
            whole_tool_calls=True,
            error="groq",
            refused=("logprobs", "top_logprobs", "logit_bias"),
            members=frozenset(("role", "content", "tool_calls", "tool_call_id", "function_call", "reasoning")),
        ),
        "openrouter": Flavour(
            name="openrouter",
            reasoning_field="reasoning",
            usage_place="finish",
            usage_always=True,
            role_each=True,
            comments=1,
            error="openrouter",
            models="rich",
            public_models=True,
        ),
        "together": Flavour(
            name="together",
            reasoning_field="reasoning",
            usage_place="finish",
            usage_always=True,
            role_each=True,
            stop_word="eos",
            whole_tool_calls=True,
            models="array",
        ),
        "deepseek": Flavour(
            name="deepseek",
            reasoning_field="reasoning_content",
            usage_place="finish",
            usage_always=True,
        ),
        "vllm": Flavour(name="vllm", reasoning_field="reasoning"),
    }
)
# A path prefix in front of /v1 chooses the flavour; the first two are the real base URLs' own.
PREFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "/openai": "groq",
        "/api": "openrouter",
        "/groq": "groq",
        "/openrouter": "openrouter",
        "/together": "together",
        "/deepseek": "deepseek",
        "/vllm": "vllm",
    }
)
