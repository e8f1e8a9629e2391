"""Shutdown dates that the vendors publish and the table of facts lacks or has otherwise: provider, day, models.

Source: openai-python 3.52.0, types/shared/chat_model.py ("Deprecated values"), which follows
developers.openai.com/api/docs/deprecations; ai.google.dev/gemini-api/docs/deprecations. Read on 2026-11-20.
"""

from types import MappingProxyType
from typing import Final

SHUTDOWNS_SOURCE: Final = (
    "Shutdown dates of openai and google: the vendors' own, from openai-python 3.52.0 and ai.google.dev"
)
SHUTDOWNS: Final = MappingProxyType(
    {
        "openai": {
            "2025-07-28": ("o1-preview", "o1-preview-2024-09-12"),
            "2025-10-10": ("gpt-4o-audio-preview-2024-10-01",),
            "2025-10-27": ("o1-mini", "o1-mini-2024-09-12"),
            "2026-02-17": ("chatgpt-4o-latest",),
            "2026-05-07": (
                "gpt-4o-audio-preview",
                "gpt-4o-audio-preview-2024-12-17",
                "gpt-4o-audio-preview-2025-06-03",
                "gpt-4o-mini-audio-preview",
                "gpt-4o-mini-audio-preview-2024-12-17",
            ),
            "2026-07-23": ("gpt-4o-search-preview", "gpt-4o-mini-search-preview"),
            "2027-01-14": ("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini"),
            "2027-04-01": ("gpt-5.4-nano", "gpt-5.4-nano-2026-03-17", "gpt-5.1", "gpt-5.1-2025-11-13"),
        },
        "google": {
            "2026-03-09": ("gemini-3-pro-preview",),
            "2026-06-01": ("gemini-2.0-flash", "gemini-2.0-flash-lite"),
            "2026-12-01": ("gemini-2.5-flash", "gemini-2.5-pro"),
            "2028-05-14": ("gemini-embedding-001",),
        },
    }
)
