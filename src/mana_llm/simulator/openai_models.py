"""Lists of models as the OpenAI-compatible clouds write them.

Source: docs/sources.md (OpenAI and its kin); recorded lists of OpenAI and Groq.
"""

from __future__ import annotations

from mana_llm.simulator.flavours import Flavour
from mana_llm.simulator.models import CLOUD_MODELS
from mana_llm.simulator.script import Json


def model_row(name: str, owner: str) -> Json:
    """OpenAI's four members of a model."""
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": owner}


def model_list(flavour: Flavour) -> object:
    """The list of models in the flavour's shape."""
    rows = [model_row(name, owner) for name, owner in CLOUD_MODELS]
    if flavour.models == "array":
        return [row | _together(row["id"]) for row in rows]
    if flavour.models == "rich":
        return {"data": [_openrouter(row["id"]) for row in rows]}
    if flavour.name == "groq":
        rows = [row | _groq(row["id"]) for row in rows]
    return {"object": "list", "data": rows}


def _together(name: str) -> Json:
    pricing = {"input": 0.1, "output": 0.2, "hourly": 0, "base": 0, "finetune": 0}
    more = {"type": "chat", "organization": "Simulated", "context_length": 131072}
    return more | {"display_name": name, "pricing": pricing}


def _openrouter(name: str) -> Json:
    return {
        "id": name,
        "name": name,
        "created": 1_700_000_000,
        "context_length": 131072,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        # Strings in USD per token.
        "pricing": {"prompt": "0.0000001", "completion": "0.0000005"},
        "top_provider": {"context_length": 131072, "max_completion_tokens": 65536, "is_moderated": False},
        "supported_parameters": ["max_tokens", "temperature", "tools"],
        "expiration_date": None,
    }


def _groq(name: str) -> Json:
    cost = {"prompt": "0.0000001", "completion": "0.0000005", "input_cache_read": "0.00000005"}
    return {
        "name": name,
        "active": True,
        "context_window": 131072,
        "context_length": 131072,
        "max_completion_tokens": 65536,
        "max_output_length": 65536,
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "supported_features": ["json_mode", "tools"],
        "supported_sampling_parameters": ["temperature", "top_p", "stop", "seed", "max_tokens"],
        "hugging_face_id": "simulated/model",
        "public_apps": None,
        "pricing": cost | {"image": "0", "request": "0"},
    }
