import pytest

from mana_llm.upstream.media import image_type

BITMAP = b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(36)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"GIF87a\1\0", "image/gif"),
        (b"GIF89a\1\0", "image/gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        (BITMAP, "image/bmp"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "image/heif"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "image/avif"),
        (b"", None),
        (b"\x89PNG", None),
        (b"BMW is a maker of cars", None),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"\0\0\0\x18ftypisom\0\0\0\0", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"<!doctype html><img src='a.png'>", None),
        (b"%PDF-1.7", None),
        (b"ID3\4\0", None),
    ],
)
def test_image_is_known_by_its_first_bytes_when_it_is_one(data, kind):
    """The types that models take, and nothing else, whatever its name was."""
    assert image_type(data) == kind
