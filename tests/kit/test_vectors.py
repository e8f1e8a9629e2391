"""Vectors in base64 and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.kit.vectors import base64_of, floats_of


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_floats_come_back_when_they_fit_32_bits(floats):
    """Packing and unpacking loses nothing that a 32-bit float can hold."""
    assert floats_of(base64_of(floats)) == floats


def test_bytes_are_little_endian_when_packed():
    """1.0 is 00 00 80 3f, as OpenAI writes it."""
    assert base64_of([1.0]) == "AACAPw=="


@pytest.mark.parametrize("text", ["!", "AAA=", "AACAP", "AACA Pw=="])
def test_text_is_refused_when_it_holds_no_floats(text):
    """What is not base64, or not a whole number of floats, is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        floats_of(text)
