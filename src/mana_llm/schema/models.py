"""What a provider lists as its models."""

import msgspec


class Model(msgspec.Struct, omit_defaults=True):
    """One row of a models list. `id` is the provider's own name for it; `created` is Unix time, 0 if not told."""

    id: str
    created: int = 0
    context_window: int | None = None
    capabilities: tuple[str, ...] | None = None
