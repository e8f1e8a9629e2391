"""Which lane a request waits in."""

from collections.abc import Mapping
from typing import Final

from mana_llm.schema.errors import RequestError
from mana_llm.schema.events import Lane

LANE_HEADER: Final = b"x-mana-llm-lane"


def lane_of(given: Mapping[bytes, bytes], default: Lane) -> Lane:
    """The lane that the header `X-Mana-LLM-Lane` names, `default` without one.

    Raises:
        RequestError: 400 if it names no lane.
    """
    named = given.get(LANE_HEADER)
    if named is None:
        return default
    match named.strip().lower():
        case b"interactive":
            return "interactive"
        case b"batch":
            return "batch"
    raise RequestError("X-Mana-LLM-Lane must be interactive or batch.", code="invalid_lane")
