"""Embeddings by Gemini: the calls, the vectors, what they cost, and the recordings."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.kit.vectors import floats_of
from mana_llm.schema import errors
from mana_llm.schema.embeddings import EmbeddingsRequest
from tests.providers.google_cases import google
from tests.recordings import cases
from tests.simulator.raw import ask, http, run

MODEL = "gemini-embedding-001"


def wish(*texts, fields=None, **more):
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in (fields or {}).items()}
    return EmbeddingsRequest(raw, MODEL, list(texts), len(texts), **more)


def vectors(*values, **members):
    return json.dumps({"embeddings": [{"values": one} for one in values], **members}).encode()


def test_texts_go_in_batches_when_they_are_many():
    """At most a hundred texts a call, in their order, each naming the model with its prefix."""
    texts = [f"text {number}" for number in range(201)]
    calls = google().encode_embeddings(wish(*texts, dimensions=768), "models/" + MODEL)
    bodies = [json.loads(call.body)["requests"] for call in calls]
    assert [len(body) for body in bodies] == [100, 100, 1]
    assert [row["content"]["parts"][0]["text"] for body in bodies for row in body] == texts
    assert bodies[2] == [
        {"model": f"models/{MODEL}", "outputDimensionality": 768, "content": {"parts": [{"text": "text 200"}]}}
    ]
    assert {call.endpoint.target for call in calls} == {f"/v1beta/models/{MODEL}:batchEmbedContents"}


def test_ignored_names_what_was_given_when_it_has_no_place_here():
    """What changes nothing is named, null is nothing, and sizes are sent only if they were asked for."""
    fields = {"user": "u", "input": "a", "input_type": "query", "encoding_format": "float", "truncate": None}
    (call,) = google().encode_embeddings(wish("a", fields=fields), MODEL)
    assert call.ignored == ("input_type", "user")
    assert json.loads(call.body)["requests"][0].keys() == {"model", "content"}


def test_tokens_are_refused_with_the_clients_switch_when_they_are_given():
    """Gemini embeds texts: who sends tokens learns which switch sends texts."""
    with pytest.raises(errors.ProviderCapabilityError, match="check_embedding_ctx_length=False") as caught:
        google().encode_embeddings(EmbeddingsRequest({}, MODEL, None, 1), MODEL)
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_vectors_are_one_list_when_they_came_in_batches():
    """Rows are numbered through, and floats pass as they came."""
    found = google().decode_embeddings([vectors([0.1, 2], [3, 4]), vectors([5.0, 1e-7])], wish("a", "b", "c"))
    body = json.loads(msgspec.json.encode(found.fields))
    assert body["data"] == [
        {"object": "embedding", "index": index, "embedding": values}
        for index, values in enumerate([[0.1, 2], [3, 4], [5.0, 1e-7]])
    ]
    assert body["object"] == "list"


def test_usage_is_estimated_when_the_model_reports_none():
    """A quarter of the characters, rounded up, unless every answer has a count."""
    found = google().decode_embeddings(
        [vectors([1], usageMetadata={"promptTokenCount": 9}), vectors([1])], wish("abcd", "e")
    )
    assert (found.estimated, found.usage.tokens_in, found.fields["usage"]) == (
        True,
        2,
        {"prompt_tokens": 2, "total_tokens": 2},
    )
    counted = vectors([1], usageMetadata={"promptTokenCount": 9})
    found = google().decode_embeddings([counted, counted], wish("abcd", "e"))
    assert (found.estimated, found.fields["usage"]) == (False, {"prompt_tokens": 18, "total_tokens": 18})


@pytest.mark.parametrize("nothing", [None, ""])
def test_vectors_are_given_when_the_error_beside_them_says_nothing(nothing):
    """An `error` of null or without a letter is none."""
    assert google().decode_embeddings([vectors([1], error=nothing)], wish("a")).fields["data"]


def test_base64_holds_the_floats_when_it_is_asked_for():
    """OpenAI's client asks for base64 of 32-bit floats."""
    found = google().decode_embeddings([vectors([0.5, -2])], wish("a", encoding="base64"))
    assert floats_of(found.fields["data"][0]["embedding"]) == [0.5, -2.0]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vector_has_the_length_one_when_it_was_cut(encoding):
    """A vector that gemini-embedding-001 cut is stretched; a nought stays."""
    found = google().decode_embeddings([vectors([3, 4], [0, 0])], wish("a", "b", dimensions=2, encoding=encoding))
    rows = [row["embedding"] for row in found.fields["data"]]
    first, second = rows if encoding == "float" else map(floats_of, rows)
    assert first == pytest.approx([0.6, 0.8])
    assert second == [0, 0]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>", errors.ProviderProtocolError),
        (b"{}", errors.ProviderProtocolError),
        (vectors([1], [2]), errors.ProviderProtocolError),
        (vectors("a"), errors.ProviderProtocolError),
        (b'{"embeddings":[{}]}', errors.ProviderProtocolError),
        (b'{"error":{"code":503,"message":"overloaded"}}', errors.ProviderServerError),
    ],
)
@pytest.mark.parametrize("more", [{}, {"encoding": "base64"}, {"dimensions": 1}])
def test_answer_is_a_failure_when_it_holds_no_embeddings(body, error, more):
    """What is no list of as many vectors is the provider's failure."""
    with pytest.raises(error):
        google().decode_embeddings([body], wish("a", **more))


def test_answer_is_a_failure_when_a_number_fits_no_float():
    """A number beyond 32 bits cannot be given in base64."""
    with pytest.raises(errors.ProviderProtocolError):
        google().decode_embeddings([vectors([1e300])], wish("a", encoding="base64"))


@given(st.binary(max_size=100), st.sampled_from(["float", "base64"]))
def test_decoder_raises_only_provider_errors_when_bytes_are_arbitrary(body, encoding):
    """No bytes break it."""
    with pytest.raises(errors.ProviderError):
        google().decode_embeddings([body], wish("a", encoding=encoding))


def test_simulator_embeds_when_it_is_asked():
    """The calls are what the API takes: batches, sizes and names."""

    async def check(simulator):
        asked = wish(*(f"text {number}" for number in range(101)), dimensions=8)
        bodies = []
        for call in google().encode_embeddings(asked, MODEL):
            raw = http("POST", call.endpoint.target, json.loads(call.body), "x-goog-api-key: k\r\n")
            status, _, body = await ask(simulator, raw)
            assert status == 200
            bodies.append(body)
        rows = google().decode_embeddings(bodies, asked).fields["data"]
        assert [len(row["embedding"]) for row in rows] == [8] * 101
        assert all(math.hypot(*row["embedding"]) == pytest.approx(1) for row in rows)

    run(check)


def is_batch(recording):
    return recording.status == 200 and recording.url.split("?")[0].endswith(":batchEmbedContents")


@pytest.mark.parametrize("recording", cases("google", is_batch))
def test_recorded_batch_is_the_same_when_it_is_encoded_and_decoded(recording):
    """What real clients sent is what we send for the same texts, and what came back is every number of it."""
    body = recording.request["json"]
    texts = [part["text"] for one in body["requests"] for part in one["content"]["parts"]]
    sizes = {one.get("outputDimensionality") for one in body["requests"]}
    asked = wish(*texts, dimensions=sizes.pop())
    (call,) = google().encode_embeddings(asked, body["requests"][0]["model"])
    assert json.loads(call.body) == body
    told = json.loads(recording.body)["embeddings"]
    found = google().decode_embeddings([recording.body], asked)
    for row, one in zip(found.fields["data"], told, strict=True):
        length = math.hypot(*one["values"])
        assert row["embedding"] == pytest.approx([value / length for value in one["values"]])
        assert math.hypot(*row["embedding"]) == pytest.approx(1)
    assert found.estimated is ("usageMetadata" not in json.loads(recording.body))
