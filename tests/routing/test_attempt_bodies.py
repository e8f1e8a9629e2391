"""The answers to one request for embeddings are bounded together, since all are held at once."""

import msgspec
import pytest
import uvloop

from mana_llm.providers.base_url import base_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.compatible_quirks import EmbeddingQuirks, Quirks
from mana_llm.routing.attempt import ANSWER_BYTES_MAX, Task, Ways, attempt
from mana_llm.routing.preparation import Preparation
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import ProviderProtocolError
from mana_llm.schema.targets import Target
from mana_llm.schema.wire import Limits, encode_json

TARGET = Target("lab", "m", "lab/m")
LIMITS = Limits(connect_s=1.0, first_s=None, idle_s=1.0, total_s=10.0)


class Clock:
    """Time that stands."""

    def now_s(self):
        return 1000.0

    def wall_s(self):
        return 0.0


class Response:
    """An answer that is there at once."""

    status = 200
    headers = ((b"content-type", b"application/json"),)
    media_type = b"application/json"
    connect_s = 0.0

    def __init__(self, body, asked):
        self._body = body
        self._asked = asked

    async def read_all(self, bytes_max):
        self._asked.append(bytes_max)
        if len(self._body) > bytes_max:
            raise ProviderProtocolError("too much")
        return self._body

    def close(self):
        pass


class Transport:
    """Answers every call alike, and notes how much it was allowed to say."""

    def __init__(self, body):
        self.body = body
        self.asked = []

    async def send(self, call, limits):
        return Response(self.body, self.asked)

    async def close(self):
        pass


def embed(transport, count):
    """Ask for `count` texts, one a call."""
    texts = ["text"] * count
    provider = Compatible("lab", base_of("http://a/v1"), "", Quirks(embeddings=EmbeddingQuirks(inputs_max=1)))
    request = EmbeddingsRequest({"input": msgspec.Raw(encode_json(texts))}, "m", texts, count)
    clock = Clock()
    ways = Ways(transport, Preparation(transport, None, clock), clock)
    return uvloop.run(_awaited(ways, provider, Task(request, TARGET, LIMITS)))


async def _awaited(ways, provider, task):
    return await attempt(ways, provider, task)


def test_each_answer_may_say_what_the_others_left_when_there_are_several():
    """Three answers share one bound."""
    body = encode_json({"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    transport = Transport(body)
    assert len(embed(transport, 3).embeddings.fields["data"]) == 3
    assert transport.asked == [ANSWER_BYTES_MAX - len(body) * before for before in range(3)]


def test_attempt_fails_when_the_answers_are_too_much_together():
    """Two answers, each within the bound, are refused if they are not together."""
    with pytest.raises(ProviderProtocolError):
        embed(Transport(b" " * (ANSWER_BYTES_MAX // 2 + 1)), 2)
