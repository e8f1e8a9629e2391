"""Whether the provider of Ollama's own API understands every recording of it, by feature."""

import json

from mana_llm.providers.ollama import Ollama
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import ProviderError, ProviderProtocolError, ProviderTruncatedError
from mana_llm.schema.wire import Origin
from tests.chat_recordings import asked, cloud
from tests.providers.test_ollama_recorded import FOLDER, NOT_CHAT, is_chat, is_stream
from tests.recordings import Recording, recordings, streamed

Row = tuple[str, str, int, list[str]]
# Nothing was said before the ceiling, which is an error, and the right one.
CUT_SHORT = ("length", "")


def is_embeddings(recording: Recording) -> bool:
    """Whether something was embedded, by the old path too."""
    return recording.url.endswith(("/api/embed", "/api/embeddings")) or "/api/embed" in NOT_CHAT.get(recording.file, "")


def is_openais(recording: Recording) -> bool:
    """Whether a chat came by Ollama's /v1, which the provider of OpenAI-compatible servers reads."""
    return "OpenAI's shape" in NOT_CHAT.get(recording.file, "")


def features_of(recording: Recording) -> list[str]:
    """What a recording is an example of; `other` is no chat, embedding or list of models, and is not decoded."""
    if recording.status >= 400:
        return ["error"]
    if is_embeddings(recording):
        return ["embeddings"]
    if recording.url.endswith("/api/tags"):
        return ["models"]
    if not is_chat(recording) and not is_openais(recording):
        return ["other"]
    text = recording.body.replace(b" ", b"")
    names = ["stream" if is_stream(recording) else "plain"]
    names += ["calls"] if b'"tool_calls":[{' in text else []
    names += ["reasoning"] if b'"thinking":"' in text.replace(b'"thinking":""', b"") else []
    return names


def problem_with(recording: Recording) -> str:
    """Why the provider does not understand a recording; "" if it does, or has nothing to do with it."""
    ollama = Ollama(Origin("http", "localhost", 11434))
    try:
        if recording.status >= 400:
            error = ollama.decode_error(recording.status, recording.headers, recording.body)
            return repr(error) if isinstance(error, ProviderProtocolError) else ""
        if is_embeddings(recording):
            return _embeddings_problem(ollama, recording)
        if recording.url.endswith("/api/tags"):
            ollama.decode_models(recording.body)
        elif is_openais(recording):
            cloud("ollama-openai-compat").decode_chat(recording.body, asked())
        elif is_stream(recording):
            _, ending = streamed(ollama.open_stream(asked(stream=True)), [recording.body])
            return "" if ending == (True, type(None), None) else f"ends as {ending}"
        elif is_chat(recording):
            ollama.decode_chat(recording.body, asked())
    except ProviderTruncatedError as error:
        answer = json.loads(recording.body)
        return "" if (answer["done_reason"], answer["message"]["content"]) == CUT_SHORT else repr(error)
    except ProviderError as error:
        return repr(error)
    return ""


def _embeddings_problem(ollama: Ollama, recording: Recording) -> str:
    if recording.url.endswith("/api/embeddings"):
        return "the old /api/embeddings, which is not asked here"
    count = len(json.loads(recording.body)["embeddings"])
    ollama.decode_embeddings([recording.body], EmbeddingsRequest({}, "m", ["text"] * count, count))
    return ""


def ollama_rows() -> list[Row]:
    """By feature: how many recordings are understood, and which are not, and why.

    A streamed answer with calls counts as `stream` and as `calls`.
    """
    decoded: dict[str, int] = {}
    problems: dict[str, list[str]] = {}
    for recording in recordings(FOLDER):
        problem = problem_with(recording)
        for feature in features_of(recording):
            decoded[feature] = decoded.get(feature, 0) + (not problem)
            problems.setdefault(feature, []).extend([f"{recording.file}: {problem}"] if problem else [])
    return [(FOLDER, feature, count, problems[feature]) for feature, count in decoded.items()]
