"""Which recordings of Gemini and of Vertex are what, and whether the provider understands every one of them.

Vertex answers generateContent as Gemini does, so that its recordings are read by the same decoder, although nothing
here asks Vertex.
"""

import json
from typing import Any

from mana_llm.providers.google import Google
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import (
    ProviderBlockedError,
    ProviderError,
    ProviderProtocolError,
    ProviderServerError,
    ProviderTruncatedError,
)
from mana_llm.schema.wire import Origin
from tests.recordings import Recording, recordings, streamed

FOLDERS = ("google", "google-vertex")
# By the word in the path: what is not generateContent. A list of models is told by its path's end.
OTHER_PATHS = {
    "cachedContents": "the caching API",
    "interactions": "the Interactions API, which has other shapes",
    "batchEmbedContents": "embeddings",
    "countTokens": "counts without an answer",
    ":predict": "Vertex's own embeddings",
}
# By name: fixtures whose url is unknown.
NOT_CHAT = {
    "prism-php+prism--Fixtures__gemini__multimodal-embeddings-aggregate-1.json.json#0": "an embedding",
    "prism-php+prism--Fixtures__gemini__multimodal-embeddings-image-1.json.json#0": "an embedding",
}
# Recorded by the client library after its own framing: one event's data per line.
UNFRAMED = "vercel+ai--google__google-tool-call.chunks.txt.json#0"
# Answers that are failures, and which.
FAILING: dict[str, type[ProviderError]] = {
    # Thinking ate the whole budget.
    "pydantic+pydantic-ai--test_google__test_google_model_max_tokens_thinking_model_empty_response.yaml.json#0": (
        ProviderTruncatedError
    ),
    "pydantic+pydantic-ai--test_google__test_google_model_safety_settings.yaml.json#0": ProviderBlockedError,
    "pydantic+pydantic-ai--test_google__test_google_model_armor_prompt_template_text_gets_blocked.yaml.json#0": (
        ProviderBlockedError
    ),
    # The same, with its reason as a number.
    "open-telemetry+opentelemetry-python-contrib--vertexai__test_generate_content_extra_params.yaml.json#0": (
        ProviderTruncatedError
    ),
    # The model called a function that it had not been given.
    "pydantic+pydantic-ai--test_multimodal_tool_returns__test_multimodal_tool_return_matrix"
    "[tool_return_content-url-image-google_vertex].yaml.json#0": ProviderServerError,
}
ASKED = ChatRequest({}, "", stream=False, include_usage=False)
Row = tuple[str, str, int, list[str]]


def google() -> Google:
    """A provider with a memory of its own."""
    return Google(Origin("https", "generativelanguage.googleapis.com", 443), "", "made-up-key-of-nobody")


def path_of(recording: Recording) -> str:
    """The url without its query."""
    return recording.url.split("?")[0]


def is_list(recording: Recording) -> bool:
    """Whether a list of models was asked for."""
    return path_of(recording).endswith("/v1beta/models")


def is_embeddings(recording: Recording) -> bool:
    """Whether something was embedded, by whichever method."""
    return path_of(recording).endswith((":batchEmbedContents", ":predict")) or recording.file in NOT_CHAT


def is_error(recording: Recording) -> bool:
    """Whether the answer's status is an error's."""
    return recording.status >= 400


def is_chat(recording: Recording) -> bool:
    """Whether an exchange was an answered chat."""
    known = any(word in recording.url for word in OTHER_PATHS) or recording.file in NOT_CHAT
    return recording.status == 200 and not known and not is_list(recording)


def is_stream(recording: Recording) -> bool:
    """Whether a chat was answered in events."""
    return is_chat(recording) and (recording.file == UNFRAMED or recording.body.lstrip().startswith(b"data:"))


def is_whole(recording: Recording) -> bool:
    """Whether a chat was answered with one body."""
    return is_chat(recording) and not is_stream(recording)


def body_of(recording: Recording) -> bytes:
    """The bytes as they were on the wire."""
    if recording.file != UNFRAMED:
        return recording.body
    return b"".join(b"data: %b\r\n\r\n" % line for line in recording.body.splitlines() if line.strip())


def events_of(recording: Recording) -> list[Any]:
    """Every event's JSON, or the whole body's, read in the plainest way."""
    if not is_stream(recording):
        return [json.loads(recording.body)]
    return [json.loads(line[5:]) for line in body_of(recording).splitlines() if line.startswith(b"data:")]


def parts_of(events: list[Any]) -> list[Any]:
    """Every part of every candidate, in order."""
    candidates = [candidate for event in events for candidate in event.get("candidates", [])]
    return [part for candidate in candidates for part in candidate.get("content", {}).get("parts", [])]


def features_of(recording: Recording) -> list[str]:
    """What a recording is an example of; `other` is no chat, embedding or list of models, and is not decoded."""
    if is_error(recording):
        return ["error"]
    if is_embeddings(recording):
        return ["embeddings"]
    if is_list(recording):
        return ["models"]
    if not is_chat(recording):
        return ["other"]
    parts = parts_of(events_of(recording))
    names = ["stream" if is_stream(recording) else "plain"]
    names += ["calls"] if any("functionCall" in part for part in parts) else []
    names += ["reasoning"] if any(part.get("thought") for part in parts) else []
    return names


def problem_with(recording: Recording) -> str:
    """Why the provider does not understand a recording; "" if it does, or has nothing to do with it."""
    try:
        if is_error(recording):
            error = google().decode_error(recording.status, recording.headers, recording.body)
            return str(error) if isinstance(error, ProviderProtocolError) else ""
        if is_embeddings(recording):
            return _embeddings_problem(recording)
        if is_list(recording):
            return _list_problem(recording)
        if is_stream(recording):
            return _stream_problem(body_of(recording))
        if is_whole(recording):
            google().decode_chat(recording.body, ASKED)
    except ProviderError as error:
        return "" if type(error) is FAILING.get(recording.file) else repr(error)
    return ""


def _list_problem(recording: Recording) -> str:
    methods = [row.get("supportedGenerationMethods", ()) for row in json.loads(recording.body)["models"]]
    wanted = sum(not {"generateContent", "embedContent"}.isdisjoint(each) for each in methods)
    found = len(google().decode_models(recording.body))
    return "" if found == wanted else f"{found} models of {wanted}"


def _stream_problem(body: bytes) -> str:
    chunks, ending = streamed(google().open_stream(ASKED), [body])
    if ending != (True, type(None), None):
        return f"ends as {ending}"
    split = streamed(google().open_stream(ASKED), (body[at : at + 1] for at in range(len(body))))
    return "" if split == (chunks, ending) else "is another one byte by byte"


def _embeddings_problem(recording: Recording) -> str:
    if path_of(recording).endswith(":predict"):
        return "Vertex's :predict, which is not asked here"
    if recording.file in NOT_CHAT:
        return "the answer of :embedContent, which is not asked here"
    count = len(json.loads(recording.body)["embeddings"])
    found = google().decode_embeddings([recording.body], EmbeddingsRequest({}, "m", ["text"] * count, count))
    return "" if len(found.fields["data"]) == count else "vectors are missing"


def google_rows() -> list[Row]:
    """By provider and feature: how many recordings are understood, whole and split, and which are not, and why.

    A streamed answer with calls counts as `stream` and as `calls`, one that is a failure is understood if it is the
    right one. The count of `other` is that of recordings which
    are none of the provider's business: caches, counts of tokens, another API.
    """
    rows: list[Row] = []
    for folder in FOLDERS:
        decoded: dict[str, int] = {}
        problems: dict[str, list[str]] = {}
        for recording in recordings(folder):
            problem = problem_with(recording)
            for feature in features_of(recording):
                decoded[feature] = decoded.get(feature, 0) + (not problem)
                problems.setdefault(feature, []).extend([f"{recording.file}: {problem}"] if problem else [])
        rows += [(folder, feature, count, problems[feature]) for feature, count in decoded.items()]
    return rows
