"""What travels in the scenarios: requests, answers and chunks in the shape and size that OpenAI sends them.

Source: OpenAI's OpenAPI description 2.3.0, and answers of gpt-4o-mini with `include_usage`.
"""

import base64
import json
import random
from typing import Final

MODEL: Final = "openai/gpt-4o-mini"
OLLAMA_MODEL: Final = "ollama/gemma3:4b"
GEMINI_MODEL: Final = "google/gemini-3.5-flash-lite"
CALLER_KEY: Final = "benchmark-caller"
IMAGE_BODY_BYTES: Final = 2 * 1024 * 1024
STREAM_CHUNKS: Final = 200
"""Chunks with content in one streamed answer; role, finish and usage come on three more, which are not counted."""
DONE: Final = b"data: [DONE]\n\n"

_SYSTEM: Final = (
    "You are a helpful assistant that answers questions about geography, concisely and with correct facts. "
    "If you do not know, say so."
)
_QUESTION: Final = (
    "What is the capital of France, and why is it notable? Give two or three sentences, please, and mention the river."
)
_TEXT: Final = (
    "Paris is the capital and most populous city of France, situated on the Seine River, in the north of the country, "
    "at the heart of the Ile-de-France region. It has been one of the major centres of finance, diplomacy, commerce, "
    "fashion and gastronomy in Europe since the 17th century."
)
_USAGE: Final = {
    "prompt_tokens": 57,
    "completion_tokens": 64,
    "total_tokens": 121,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def plain_request(*, stream: bool = False) -> bytes:
    """A short question."""
    return _request(_QUESTION, stream=stream)


def image_request(model: str = MODEL) -> bytes:
    """A question about an image, 2 MiB in all; the same bytes in every run."""
    picture = random.Random(0).randbytes((IMAGE_BODY_BYTES - len(_image_request("", model)) - 4) * 3 // 4)
    return _image_request(base64.b64encode(picture).decode(), model)


def answer() -> bytes:
    """A whole answer."""
    message: dict[str, object] = {"role": "assistant", "content": _TEXT, "refusal": None, "annotations": []}
    return _json(
        {
            "id": "chatcmpl-AbCdEf0123456789",
            "object": "chat.completion",
            "created": 1750000000,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_b8bc95a0ac",
        }
    )


def ollama_answer() -> bytes:
    """A whole answer of Ollama's /api/chat."""
    message = {"role": "assistant", "content": _TEXT}
    counts = {"done": True, "done_reason": "stop", "prompt_eval_count": 57, "eval_count": 64}
    return _json({"model": "gemma3:4b", "created_at": "2026-11-21T00:00:00Z", "message": message, **counts})


def gemini_answer() -> bytes:
    """A whole answer of Gemini's generateContent."""
    content = {"role": "model", "parts": [{"text": _TEXT}]}
    usage = {"promptTokenCount": 57, "candidatesTokenCount": 64, "totalTokenCount": 121}
    candidates = [{"content": content, "finishReason": "STOP", "index": 0}]
    return _json({"candidates": candidates, "usageMetadata": usage, "responseId": "AbCd"})


def models() -> bytes:
    """A list of models."""
    row = {"id": "gpt-4o-mini", "object": "model", "created": 1721172741, "owned_by": "system"}
    return _json({"object": "list", "data": [row]})


def content_event(text: str) -> bytes:
    """The event of one chunk with content."""
    return _event([_choice({"content": text})])


def stream_head() -> bytes:
    """The event that opens an answer: a role and no content."""
    return _event([_choice({"role": "assistant", "content": "", "refusal": None})])


def stream_tail() -> bytes:
    """The events that end an answer: finish, usage, end marker."""
    return _event([_choice({}, "stop")]) + _event([], _USAGE) + DONE


def whole_stream() -> bytes:
    """Every event of a streamed answer."""
    words = _TEXT.split()
    texts = (f" {words[number % len(words)]}" for number in range(STREAM_CHUNKS))
    return stream_head() + b"".join(map(content_event, texts)) + stream_tail()


def _request(content: object, *, stream: bool, model: str = MODEL) -> bytes:
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": content}]
    fields = {"model": model, "messages": messages, "temperature": 0.7, "max_tokens": 256, "user": "u-12345"}
    return _json({**fields, "stream": stream})


def _image_request(picture: str, model: str) -> bytes:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    return _request([{"type": "text", "text": "What is on this picture?"}, image], stream=False, model=model)


def _choice(delta: dict[str, str | None], finish: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _event(choices: list[dict[str, object]], usage: object = None) -> bytes:
    chunk = {
        "id": "chatcmpl-AbCdEf0123456789",
        "object": "chat.completion.chunk",
        "created": 1750000000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_b8bc95a0ac",
        "choices": choices,
        "usage": usage,
    }
    return b"data: %b\n\n" % _json(chunk)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
