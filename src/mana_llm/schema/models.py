"""What a provider lists as its models, and what is known of a model without asking."""

from datetime import date

import msgspec


class Model(msgspec.Struct, omit_defaults=True):
    """One row of a models list. `id` is the provider's own name for it; `created` is Unix time, 0 if not told.

    `can_more` says that the row tells some of the `capabilities` and is silent about others.
    """

    id: str
    created: int = 0
    context_window: int | None = None
    capabilities: tuple[str, ...] | None = None
    can_more: bool = False


class Facts(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={
        "input_usd_per_mtok": "in",
        "cached_usd_per_mtok": "cached",
        "output_usd_per_mtok": "out",
        "context_tokens": "context",
        "output_tokens_max": "output",
    },
):
    """What is published of one model; None where it is not.

    Prices are USD per million tokens: of input, of input read from the provider's cache, of output. `can` has the
    words of `Model.capabilities`, and `responses` for a model without chat completions. `shutdown` is the day on
    which it stops. The members have short names in the catalogue's file.
    """

    input_usd_per_mtok: float | None = None
    cached_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    can: tuple[str, ...] = ()
    shutdown: date | None = None


class FactsFile(msgspec.Struct, frozen=True):
    """The catalogue's file: where its numbers are from, the day that they were read, facts by provider and model."""

    source: str
    date: date
    models: dict[str, dict[str, Facts]]
