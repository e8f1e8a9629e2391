"""What a file is, told by its first bytes: what a server says of it is not believed."""

from typing import Final

# Source: WHATWG MIME Sniffing section 6.1; ISO/IEC 23008-12 for the brands of HEIF.
_BEGINNINGS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_BRANDS: Final = (
    ((b"heic", b"heix", b"heim", b"heis"), "image/heic"),
    ((b"mif1", b"msf1", b"hevc", b"hevx"), "image/heif"),
    ((b"avif", b"avis"), "image/avif"),
)
# The sizes that a bitmap's second header may have; its first one is two letters, with which English words begin.
_BITMAP_HEADS: Final = (12, 16, 40, 52, 56, 64, 108, 124)


def image_type(data: bytes) -> str | None:
    """The media type of an image that can be shown (png, jpeg, gif, webp, bmp, heic, heif, avif); None if it is none.

    SVG is none: it is a program for a browser, and no model takes it.
    """
    for beginning, kind in _BEGINNINGS:
        if data.startswith(beginning):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BITMAP_HEADS:
        return "image/bmp"
    if data[4:8] == b"ftyp":
        return next((kind for brands, kind in _BRANDS if data[8:12] in brands), None)
    return None
