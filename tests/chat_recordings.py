"""Which recordings are chat, in what framing, and what a naive reading of them says; for every provider."""

import json
from typing import Any

import msgspec

from mana_llm.providers.base_url import base_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.compatible_quirks import Quirks
from mana_llm.providers.google import Google
from mana_llm.providers.ollama import Ollama
from mana_llm.providers.table import ROWS
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import Origin
from tests.providers import test_google_recorded, test_ollama_recorded
from tests.recordings import Recording

# The folder of each OpenAI-compatible server, and its row in the table; "" is none: a server of providers.yaml.
CLOUDS = {
    "openai-chat": "openai",
    "openai-embeddings": "openai",
    "openai-models": "openai",
    "openrouter": "openrouter",
    "groq": "groq",
    "together": "together",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "huggingface": "huggingface",
    "llamacpp": "",
    "vllm": "",
    "ollama-openai-compat": "",
    "other-openai-compat": "",
}
# By the end of the url's path: what is not chat.
OTHER_PATHS = {
    "/embeddings": "embeddings",
    "/models": "a list of models",
    "/responses": "the Responses API",
    "/audio/transcriptions": "a transcription",
    "xyz/v1/completions": "legacy completions",
    "/rerank": "reranking",
    "/props": "a server's properties",
    "zephyr-7b-beta": "Hugging Face's old inference API",
    "/main": "Hugging Face's hub",
    "Llama-3.1-8B-Instruct": "Hugging Face's hub",
}
# By name: fixtures whose url is unknown.
NOT_CHAT = {
    "vercel+ai--groq__groq-transcription-text.json.json#0": "a transcription",
    "vercel+ai--togetherai__reranking__togetherai-reranking.1.json.json#0": "a reranking",
    "vercel+ai--openai__embedding__openai-embedding.json.json#0": "embeddings",
}
# Streams that tell an error in a 200.
BROKEN = {
    "pydantic+pydantic-ai--test_openrouter__test_openrouter_stream_error.yaml.json#0": "a finish, then a 400",
    "pydantic+pydantic-ai--test_groq__test_tool_use_failed_error_streaming.yaml.json#0": "event: error",
    "pydantic+pydantic-ai--test_groq__test_tool_use_failed_error_streaming_with_text.yaml.json#0": "event: error",
}
# Recordings of a chat, embedding or models call that are not understood, and why.
NOT_UNDERSTOOD = {
    "Arize-ai+openinference--python__instrumentation__openinference-instrumentation-portkey__test_chat_completion"
    ".yaml.json#0": "recorded without its body",
}
# The servers' own finish words.
WORDS = {"eos": "stop", "model_length": "length", "": "stop"}


def cloud(folder: str) -> Compatible:
    """The provider whose traffic is in `folder`."""
    quirks = next((row.quirks for row in ROWS if row.name == CLOUDS[folder]), Quirks())
    return Compatible(CLOUDS[folder] or "custom", base_of("https://cloud.example/v1"), "made-up-key", quirks)


def provider_of(folder: str) -> Any:
    """The provider whose traffic is in `folder`, translated ones too."""
    if folder == "google":
        return Google(Origin("https", "gemini.example", 443), "", "made-up-key")
    return Ollama(Origin("http", "ollama.example", 11434)) if folder == "ollama-native" else cloud(folder)


def asked(*, stream: bool = False) -> ChatRequest:
    """A request that any recorded answer may be the answer to."""
    messages = msgspec.Raw(b'[{"role":"user","content":"Hello"}]')
    return ChatRequest({"messages": messages}, "", stream=stream, include_usage=False)


def is_chat(recording: Recording) -> bool:
    """Whether an exchange with a cloud was about chat."""
    path = recording.url.split("?")[0]
    return not path.endswith(tuple(OTHER_PATHS)) and recording.file not in NOT_CHAT


def is_unframed(recording: Recording) -> bool:
    """Whether the client library recorded after its own framing: one event's data per line, [DONE] dropped."""
    return ".chunks.txt" in recording.file


def is_stream(recording: Recording) -> bool:
    """Whether a cloud answered in events."""
    events = recording.body.lstrip().startswith((b"data:", b":", b"event:")) or is_unframed(recording)
    return recording.status == 200 and is_chat(recording) and events


def is_whole(recording: Recording) -> bool:
    """Whether a cloud answered with one body."""
    understood = is_chat(recording) and recording.file not in NOT_UNDERSTOOD
    return recording.status == 200 and understood and not is_stream(recording)


def is_any_stream(folder: str, recording: Recording) -> bool:
    """Whether this is a streamed chat answer of whichever provider, without an error in it."""
    if folder == "google":
        return test_google_recorded.is_stream(recording)
    if folder == "ollama-native":
        return test_ollama_recorded.is_stream(recording)
    return is_stream(recording) and recording.file not in BROKEN


def body_of(folder: str, recording: Recording) -> bytes:
    """The bytes as they were on the wire."""
    if folder == "google":
        return test_google_recorded.body_of(recording)
    if not is_unframed(recording):
        return recording.body
    events = [b"data: %b\n\n" % line for line in recording.body.splitlines() if line.strip()]
    return b"".join(events) + b"data: [DONE]\n\n"


def events_of(body: bytes) -> list[Any]:
    """Every event's JSON, read in the plainest way."""
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line and not line.startswith(b"[DONE]")]


def put_right(speech: dict[str, Any]) -> None:
    """A message or delta as OpenAI writes it: text as a text, reasoning in `reasoning_content`."""
    content = speech.get("content")
    if isinstance(content, list):
        speech["content"] = "".join(chunk.get("text") or "" for chunk in content) or None
        thought = "".join(part["text"] for chunk in content for part in chunk.get("thinking") or ())
        if thought:
            speech["reasoning_content"] = thought
    elif isinstance(content, dict):
        speech["content"] = json.dumps(content, ensure_ascii=False)
    if speech.get("reasoning") and not speech.get("reasoning_content"):
        speech["reasoning_content"] = speech["reasoning"]


def counted_as_openai(usage: Any) -> Any:
    """Usage as OpenAI counts it."""
    if not usage:
        return usage
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    known = usage["prompt_tokens"] + usage["completion_tokens"]
    if "total_tokens" not in usage:
        usage["total_tokens"] = known
    elif reasoning and usage["total_tokens"] == known + reasoning:
        usage["completion_tokens"] += reasoning
    for name in ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens"):
        details = usage.get("prompt_tokens_details") or {}
        if usage.get(name) is not None and details.get("cached_tokens") is None:
            usage["prompt_tokens_details"] = {**details, "cached_tokens": usage[name]}
    return usage


def put_events_right(events: list[Any]) -> list[Any]:
    """Recorded events as OpenAI would have sent them; changes `events`."""
    for event in events:
        if "usage" in event:
            event["usage"] = counted_as_openai(event["usage"])
        for choice in event.get("choices") or ():
            put_right(choice["delta"])
            if choice.get("finish_reason") is not None:
                choice["finish_reason"] = WORDS.get(choice["finish_reason"], choice["finish_reason"])
            for at, call in enumerate(choice["delta"].get("tool_calls") or ()):
                call.setdefault("index", at)
    return events


def said_in(chunks: list[Any], member: str) -> dict[int, str]:
    """By choice: the text that the deltas' `member` makes together."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            texts[index] = texts.get(index, "") + ((choice.get("delta") or {}).get(member) or "")
    return {index: text for index, text in texts.items() if text}


def calls_in(chunks: list[Any]) -> dict[tuple[int, int], tuple[Any, str, str]]:
    """By choice and call: id, name and arguments as a client puts them together."""
    calls: dict[tuple[int, int], tuple[Any, str, str]] = {}
    for chunk in chunks:
        for choice in chunk.get("choices") or ():
            for call in (choice.get("delta") or {}).get("tool_calls") or ():
                key = (choice.get("index", 0), call["index"])
                known, name, arguments = calls.get(key, (None, "", ""))
                function = call.get("function") or {}
                added = (function.get("name") or "", function.get("arguments") or "")
                calls[key] = (known or call.get("id"), name + added[0], arguments + added[1])
    return calls


def finishes_in(chunks: list[Any]) -> dict[int, list[str]]:
    """By choice: the finish reasons that were given."""
    found: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in chunk.get("choices") or ():
            if choice.get("finish_reason"):
                found.setdefault(choice.get("index", 0), []).append(choice["finish_reason"])
    return found
