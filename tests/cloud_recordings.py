"""Whether the provider of each OpenAI-compatible server understands every recording of it, by feature."""

import json

from mana_llm.providers.base_url import base_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.table import ROWS
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import ProviderError, ProviderProtocolError
from tests.chat_recordings import BROKEN, CLOUDS, NOT_UNDERSTOOD, asked, body_of, cloud, is_chat, is_stream
from tests.recordings import Recording, recordings, streamed

Row = tuple[str, str, int, list[str]]
WHOLE = (True, type(None), None)


def is_embeddings(recording: Recording) -> bool:
    """Whether something was embedded."""
    return recording.url.endswith("/embeddings") or "embedding__openai-embedding" in recording.file


def is_models(recording: Recording) -> bool:
    """Whether models were listed."""
    return recording.url.endswith("/models") and recording.status == 200


def embedder(folder: str, recording: Recording) -> Compatible:
    """The provider whose embeddings these are; of the mixed folder, by the url."""
    name = "perplexity" if "perplexity" in recording.url else "mistral" if folder == "other-openai-compat" else ""
    quirks = next((row.quirks for row in ROWS if row.name == name), None)
    return (
        cloud(folder) if quirks is None else Compatible(name, base_of("https://cloud.example"), "made-up-key", quirks)
    )


def features_of(recording: Recording) -> list[str]:
    """What a recording is an example of; `other` is no chat, embedding or list of models, and is not decoded."""
    if recording.status >= 400:
        return ["error"]
    if is_embeddings(recording):
        return ["embeddings"]
    if is_models(recording):
        return ["models"]
    if not is_chat(recording):
        return ["other"]
    text = recording.body
    names = ["stream" if is_stream(recording) else "plain"]
    names += ["calls"] if b'"tool_calls":[{' in text.replace(b" ", b"") else []
    names += ["reasoning"] if b'"reasoning' in text.replace(b"reasoning_tokens", b"") or b'"thinking"' in text else []
    return names


def problem_with(folder: str, recording: Recording) -> str:
    """Why the provider does not understand a recording; "" if it does, or has nothing to do with it."""
    if recording.file in NOT_UNDERSTOOD:
        return NOT_UNDERSTOOD[recording.file]
    provider = cloud(folder)
    try:
        if recording.status >= 400:
            error = provider.decode_error(recording.status, recording.headers, recording.body)
            return repr(error) if isinstance(error, ProviderProtocolError) else ""
        if is_embeddings(recording):
            count = len(json.loads(recording.body)["data"])
            request = EmbeddingsRequest({}, "m", ["text"] * count, count)
            embedder(folder, recording).decode_embeddings([recording.body], request)
        elif is_models(recording):
            provider.decode_models(recording.body)
        elif is_stream(recording):
            _, ending = streamed(provider.open_stream(asked(stream=True)), [body_of(folder, recording)])
            return "" if (ending == WHOLE) is (recording.file not in BROKEN) else f"ends as {ending}"
        elif is_chat(recording):
            provider.decode_chat(recording.body, asked())
    except ProviderError as error:
        return repr(error)
    return ""


def cloud_rows() -> list[Row]:
    """By folder and feature: how many recordings are understood, and which are not, and why.

    A streamed answer with calls counts as `stream` and as `calls`; one that breaks is understood if it is told so.
    """
    return [row for folder in CLOUDS for row in rows_of(folder, recordings(folder))]


def rows_of(folder: str, found: list[Recording]) -> list[Row]:
    """The rows of one folder."""
    decoded: dict[str, int] = {}
    problems: dict[str, list[str]] = {}
    for recording in found:
        problem = problem_with(folder, recording)
        for feature in features_of(recording):
            decoded[feature] = decoded.get(feature, 0) + (not problem)
            problems.setdefault(feature, []).extend([f"{recording.file}: {problem}"] if problem else [])
    return [(folder, feature, count, problems[feature]) for feature, count in decoded.items()]
