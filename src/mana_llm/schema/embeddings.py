"""The embeddings schema, which is OpenAI's."""

from typing import Any, Literal

import msgspec

from mana_llm.schema.usage import Usage

Encoding = Literal["float", "base64"]


class EmbeddingsRequest(msgspec.Struct):
    """What a client wants embedded. It is never changed: every attempt builds its own body from it.

    `fields` holds every top-level member in order. `texts` is the inputs, a single one as a list of one; None
    where tokens were given, `count` of them either way. `encoding` is what the client wants its vectors in.
    """

    fields: dict[str, msgspec.Raw]
    model: str
    texts: list[str] | None
    count: int
    encoding: Encoding = "float"
    dimensions: int | None = None
    stream: bool = False

    def __repr__(self) -> str:
        # The inputs are prompt text.
        return f"<EmbeddingsRequest {self.model!r} of {self.count}>"


class Embeddings(msgspec.Struct):
    """The vectors, in OpenAI's shape: `fields` is the body, members as Raw or as plain values.

    Each row of `data` is `{"object": "embedding", "index": n, "embedding": [floats] or base64}`, base64 being
    little-endian 32-bit floats. `estimated` says that the provider reported no usage and that it was estimated.
    """

    fields: dict[str, Any]
    usage: Usage | None = None
    estimated: bool = False
