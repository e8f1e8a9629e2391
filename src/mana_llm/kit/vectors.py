"""Vectors as OpenAI writes them in base64: little-endian 32-bit floats, one after the other."""

import binascii
import struct
from collections.abc import Sequence


def base64_of(floats: Sequence[float]) -> str:
    """Pack `floats`.

    Raises:
        OverflowError: if one of them does not fit 32 bits.
    """
    return binascii.b2a_base64(struct.pack(f"<{len(floats)}f", *floats), newline=False).decode("ascii")


def floats_of(base64: str) -> list[float]:
    """Unpack what `base64_of` packed.

    Raises:
        ValueError: if it is not base64, or no whole number of floats.
    """
    data = binascii.a2b_base64(base64, strict_mode=True)
    if len(data) % 4:
        raise ValueError("not a whole number of 32-bit floats")
    return list(struct.unpack(f"<{len(data) // 4}f", data))
