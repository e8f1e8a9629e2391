"""Embeddings by Ollama: the calls and what their answers become."""

import json

import msgspec
import pytest

from mana_llm.kit.vectors import base64_of, floats_of
from mana_llm.providers.ollama.embeddings import INPUTS_MAX
from mana_llm.schema import errors
from mana_llm.schema.embeddings import EmbeddingsRequest
from tests.providers.ollama_world import ollama
from tests.recordings import cases


def asked(*texts, encoding="float", **fields):
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in {"input": texts, **fields}.items()}
    return EmbeddingsRequest(raw, "", list(texts), len(texts), encoding, fields.get("dimensions"))


def answer(*vectors, **members):
    return json.dumps({"model": "m", "embeddings": vectors, **members}).encode()


def test_call_holds_the_texts_when_they_are_embedded():
    """Texts and dimensions are sent, nothing else; other given fields are named as ignored."""
    request = asked("a", "b", dimensions=2, user="u", encoding_format="base64", model="x")
    (call,) = ollama().encode_embeddings(request, "m")
    assert (call.endpoint.method, call.endpoint.target) == ("POST", "/api/embed")
    assert json.loads(call.body) == {"model": "m", "input": ["a", "b"], "dimensions": 2}
    assert call.ignored == ("user",)


def test_calls_are_several_when_there_are_many_texts():
    """Batches keep the order, and their answers become one list with one index."""
    texts = [str(number) for number in range(2 * INPUTS_MAX + 1)]
    request = asked(*texts)
    calls = ollama().encode_embeddings(request, "m")
    batches = [json.loads(call.body)["input"] for call in calls]
    assert [len(batch) for batch in batches] == [INPUTS_MAX, INPUTS_MAX, 1]
    assert [text for batch in batches for text in batch] == texts
    bodies = [answer(*([float(text)] for text in batch), prompt_eval_count=3) for batch in batches]
    embeddings = ollama().decode_embeddings(bodies, request)
    rows = embeddings.fields["data"]
    assert [row["index"] for row in rows] == list(range(len(texts)))
    assert [row["embedding"] for row in rows] == [[float(text)] for text in texts]
    assert embeddings.fields["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert (embeddings.usage.prompt_tokens, embeddings.estimated) == (9, False)


def test_vectors_are_base64_when_the_client_wants_that():
    """Base64 is of little-endian 32-bit floats."""
    embeddings = ollama().decode_embeddings([answer([0.5, -1.0])], asked("a", encoding="base64"))
    assert embeddings.fields["data"] == [{"object": "embedding", "index": 0, "embedding": base64_of([0.5, -1.0])}]
    assert floats_of(embeddings.fields["data"][0]["embedding"]) == [0.5, -1.0]


def test_tokens_are_refused_with_the_clients_switch_when_they_were_given():
    """Ollama takes no tokens; the message names what turns them off."""
    with pytest.raises(errors.ProviderCapabilityError, match="check_embedding_ctx_length=False") as caught:
        ollama().encode_embeddings(EmbeddingsRequest({}, "", None, 1), "m")
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_usage_is_estimated_when_the_server_gives_none():
    """Four characters to a token, rounded up, and the answer says that it is an estimate."""
    embeddings = ollama().decode_embeddings([answer([1.0])], asked("abcde"))
    assert (embeddings.usage.prompt_tokens, embeddings.estimated) == (2, True)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>", errors.ProviderProtocolError),
        (b"[" * 5000, errors.ProviderProtocolError),
        (b'{"embeddings":null}', errors.ProviderProtocolError),
        (b'{"embeddings":[["a"]]}', errors.ProviderProtocolError),
        (answer([1.0], [1.0]), errors.ProviderProtocolError),
        (answer([1e300]), errors.ProviderProtocolError),
        (b'{"error":"model runner has unexpectedly stopped"}', errors.ProviderServerError),
    ],
)
def test_answer_is_a_failure_when_it_is_not_one_vector_for_each_text(body, error):
    """Too many or too few vectors, and what is none, are the provider's failure."""
    with pytest.raises(error):
        ollama().decode_embeddings([body], asked("a", encoding="base64"))


def is_embed(recording):
    return b'"embeddings"' in recording.body[:2000]


@pytest.mark.parametrize("recording", cases("ollama-native", is_embed))
def test_vectors_are_the_recorded_ones_when_ollama_was_recorded(recording):
    """Every recorded answer of /api/embed decodes to its own numbers and count, as floats and as base64."""
    said = json.loads(recording.body)
    texts = ["x"] * len(said["embeddings"])
    embeddings = ollama().decode_embeddings([recording.body], asked(*texts))
    assert [row["embedding"] for row in embeddings.fields["data"]] == said["embeddings"]
    assert embeddings.fields["model"] == said.get("model", "")
    if "prompt_eval_count" in said:
        assert embeddings.usage.prompt_tokens == said["prompt_eval_count"]
    packed = ollama().decode_embeddings([recording.body], asked(*texts, encoding="base64"))
    for row, vector in zip(packed.fields["data"], said["embeddings"], strict=True):
        assert floats_of(row["embedding"]) == pytest.approx(vector)
