"""Which upstream a path belongs to, and what it asks of it.

    /api/chat, /api/tags, ...                     Ollama
    /v1beta/models...                             Gemini
    [/prefix][/v1]/chat/completions, /models...   OpenAI-compatible; the prefix chooses the flavour

Under the bare /v1 a colon and a Gemini method make a path Gemini's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs, unquote

import msgspec

from mana_llm.simulator.flavours import FLAVOURS, PREFIXES
from mana_llm.simulator.gemini import GeminiVoice
from mana_llm.simulator.http import Request
from mana_llm.simulator.ollama import OllamaVoice
from mana_llm.simulator.openai import OpenAIVoice
from mana_llm.simulator.voice import Voice

_OLLAMA: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("GET", "/"): "root",
        ("HEAD", "/"): "root",
        ("GET", "/api/version"): "version",
        ("HEAD", "/api/version"): "version",
        ("GET", "/api/tags"): "tags",
        ("HEAD", "/api/tags"): "tags",
        ("GET", "/api/ps"): "ps",
        ("POST", "/api/show"): "show",
        ("POST", "/api/chat"): "chat",
        ("POST", "/api/embed"): "embed",
    }
)
_GEMINI: Final = re.compile(
    r"^/v1(?:(?:beta|alpha)/models(?:/(?P<model>[^:]+))?|(?:beta|alpha)?/models/(?P<called>.+)"
    r":(?P<method>(?:streamG|g)enerateContent|embedContent|batchEmbedContents|countTokens))$"
)
_OPENAI: Final = re.compile(
    r"^(?P<prefix>.*?)(?:/v1)?/(?:(?P<chat>chat/completions)|(?P<embed>embeddings)|(?P<key>key)|models(?:/(?P<model>.+))?)$"
)


class Route(msgspec.Struct, frozen=True):
    """Whose request it is; `model` is empty where the body names it."""

    voice: Voice
    operation: str
    model: str = ""


def route(request: Request, flavour: str) -> Route:
    """The route of a request; a path that no upstream has is Ollama's 404. `flavour` serves the bare /v1."""
    path = unquote(request.path).rstrip("/") or "/"
    if operation := _OLLAMA.get((request.method, path)):
        return Route(OllamaVoice(), operation)
    if found := _GEMINI.match(path):
        return _gemini(found, request)
    if found := _OPENAI.match(path):
        return _openai(found, request, flavour)
    return Route(OllamaVoice(), "unknown")


def _gemini(found: re.Match[str], request: Request) -> Route:
    model, method = found["called"] or found["model"] or "", found["method"]
    if method is None:
        return Route(GeminiVoice(), "model" if model else "models", model)
    if method != "streamGenerateContent":
        return Route(GeminiVoice(), method, model)
    sse = parse_qs(request.query).get("alt") == ["sse"]
    # Google's events end in CRLF. Source: docs/sources.md.
    return Route(GeminiVoice("sse-crlf" if sse else "array"), method, model)


def _openai(found: re.Match[str], request: Request, flavour: str) -> Route:
    named = PREFIXES.get(found["prefix"], "openai") if found["prefix"] else flavour
    voice = OpenAIVoice(FLAVOURS[named])
    if found["chat"] or found["embed"]:
        operation = "chat" if found["chat"] else "embeddings"
        return Route(voice, operation if request.method == "POST" else f"{request.method} {request.path}")
    if found["key"]:
        return Route(voice, "key")
    return Route(voice, "model" if found["model"] else "models", found["model"] or "")
