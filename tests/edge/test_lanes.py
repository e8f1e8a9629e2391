"""Which lane a request waits in."""

import pytest

from mana_llm.edge.auth import Authenticator
from mana_llm.edge.lanes import lane_of
from mana_llm.schema.errors import RequestError
from mana_llm.schema.events import ANONYMOUS


@pytest.mark.parametrize(
    ("header", "lane"),
    [(b"interactive", "interactive"), (b"batch", "batch"), (b"Batch", "batch"), (b" INTERACTIVE ", "interactive")],
)
def test_lane_is_what_the_header_says_when_it_names_one(header, lane):
    """The header's word counts in any case, whatever the caller's own lane is."""
    given = {b"x-mana-llm-lane": header}
    assert lane_of(given, "interactive") == lane_of(given, "batch") == lane


def test_lane_is_the_callers_own_when_no_header_is_sent():
    """Without the header the default holds."""
    assert (lane_of({}, "batch"), lane_of({}, "interactive")) == ("batch", "interactive")


@pytest.mark.parametrize("header", [b"", b"fast", b"batch, interactive", b"b\xc3\xa4tch", b"batch\x00"])
def test_lane_is_refused_when_the_header_names_none(header):
    """Anything else is a 400 that names the header and what it may say, and does not quote it."""
    with pytest.raises(RequestError, match=r"^X-Mana-LLM-Lane must be interactive or batch\.$") as caught:
        lane_of({b"x-mana-llm-lane": header}, "interactive")
    assert (caught.value.status, caught.value.code) == (400, "invalid_lane")


@pytest.mark.parametrize(
    ("key", "caller", "lane"),
    [("one", "key-1", "interactive"), ("two", "batch-key-2", "batch"), ("three", "batch-key-1", "batch")],
)
def test_caller_has_the_batch_lane_when_its_key_is_a_batch_key(key, caller, lane):
    """A batch key lets its caller in and puts it into the batch lane, even if it is among the ordinary keys too."""
    authenticator = Authenticator(("one", "two"), ("three", "two"))
    headers = [(b"x-api-key", key.encode())]
    assert authenticator.caller(dict(headers), headers) == caller
    assert authenticator.lane(caller) == lane


def test_nobody_is_in_the_batch_lane_when_there_are_no_batch_keys():
    """Without keys everybody is interactive."""
    assert Authenticator(()).lane(ANONYMOUS) == "interactive"
