"""mana-llm: one OpenAI-compatible gateway in front of local and cloud language models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mana_llm.compose import create_app
    from mana_llm.settings import Settings

__version__ = "0.1.0"
__all__ = ["Settings", "__version__", "create_app"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for, so that `mana-llm --help` loads no server.
    if name == "create_app":
        from mana_llm.compose import create_app

        return create_app
    if name == "Settings":
        from mana_llm.settings import Settings

        return Settings
    raise AttributeError(f"module 'mana_llm' has no attribute {name!r}")
