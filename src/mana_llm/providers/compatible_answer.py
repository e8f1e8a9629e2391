"""What an OpenAI-compatible server says, put into OpenAI's words; the members that are right stay as they came.

Three spellings of reasoning come in (`reasoning`, `reasoning_content`, Mistral's list of chunks) and one goes out,
`reasoning_content`; a `reasoning` that came stays beside it. Finish words become OpenAI's five. Usage counts as
OpenAI counts. Source: recorded traffic, and the strictest of the clients (openai-python, Vercel AI SDK, pydantic-ai).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mana_llm.providers.toolcalls import synthesised_id
from mana_llm.schema.errors import ProviderBlockedError
from mana_llm.schema.usage import Usage, read_usage
from mana_llm.schema.wire import (
    NULL,
    JSONDecodeError,
    decode_envelope,
    decode_envelopes,
    decode_text,
    decoder_of,
    encode_json,
)

Members = dict[str, Any]

ERROR: Final = "error"
_BLOCKED_WORD: Final = "content_filter"
SAID: Final = frozenset(
    (
        *("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio"),
        # What may come without a word: reasoning that is encrypted or spelt otherwise, pictures, sources, a search
        # that the server ran itself. Source: recorded traffic of OpenRouter and Groq; OpenRouter's documentation.
        *("reasoning_details", "thinking", "images", "annotations", "executed_tools"),
    )
)
"""What a message or delta can say. Anything else, the role and Together's token_id, is no content by itself."""
_NOTHING: Final = frozenset((b"null", b'""', b"[]", b"{}"))
_FINISHES: Final = frozenset(("stop", "length", "tool_calls", "content_filter", "function_call"))
# Words of other APIs that shine through. Source: OpenRouter's native_finish_reason (recorded), Anthropic and
# Bedrock behind gateways, vLLM's and SGLang's abort, Z.AI's documentation.
_FOREIGN: Final = {
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "load": "stop",
    "unload": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "guardrail_intervened": "content_filter",
    "abort": ERROR,
    "network_error": ERROR,
    ERROR: ERROR,
}
_EMPTY_TEXT: Final = msgspec.Raw(b'""')
_BLOCKED_RAW: Final = msgspec.Raw(b'"content_filter"')
BLOCKED: Final = (_BLOCKED_RAW, _BLOCKED_WORD)
"""The finish of what a filter stopped: as it came, or translated from another API's word."""
_LIST: Final = b"["
_OBJECT: Final = b"{"


def finish_word(word: str, own: Mapping[str, str]) -> str:
    """One of OpenAI's five words, or ERROR; `own` are the server's. A word that nobody knows ends like `stop`."""
    if word in own:
        return own[word]
    return word if word in _FINISHES else _FOREIGN.get(word.lower(), "stop")


def raise_if_blocked(choices: list[Members]) -> None:
    """Refuse what a content filter stopped before anything was said; after content it is a finish like any other.

    Raises:
        ProviderBlockedError: if every choice ended so, and none says anything.
    """
    if choices and all(_blocked(choice) for choice in choices):
        raise ProviderBlockedError("the provider's content filter stopped the answer before any content")


def _blocked(choice: Members) -> bool:
    # A delta was opened, and its finish word with it; a message that was right is as it came.
    if choice.get("finish_reason", NULL) not in BLOCKED:
        return False
    said: Any = choice["delta"] if "delta" in choice else choice.get("message", NULL)
    members: Members = said if isinstance(said, dict) else {} if said == NULL else decode_envelope(said)
    return all(name not in members or _is_nothing(members[name]) for name in SAID)


def _is_nothing(value: Any) -> bool:
    return bytes(value) in _NOTHING if isinstance(value, msgspec.Raw) else not value


def tidy_texts(members: Members) -> bool:
    """Make a message's or delta's content a text or null, and spell its reasoning; True if anything changed."""
    content = members.get("content", NULL)
    text = bytes(content)
    first = text[:1]
    changed = first in (_LIST, _OBJECT)
    if first == _LIST:
        said, thought = _spoken(content)
        members["content"] = said or NULL
        if thought and not _said(members, "reasoning_content"):
            members["reasoning_content"] = thought
    elif changed:
        # An answer by a schema, given as the object itself. Source: recorded traffic of Cloudflare.
        members["content"] = text.decode()
    if "reasoning" in members and _said(members, "reasoning") and not _said(members, "reasoning_content"):
        members["reasoning_content"] = members["reasoning"]
        changed = True
    return changed


def tidy_message(message: Members, seed: tuple[msgspec.Raw, int]) -> bool:
    """Put a whole message into order; True if anything changed.

    `seed`, the answer's id and the choice's number, makes the ids of calls that have none.
    """
    changed = tidy_texts(message)
    if "content" not in message:
        message["content"] = NULL
        changed = True
    if "tool_calls" in message and bytes(message["tool_calls"]) not in (b"null", b"[]"):
        name = f"{bytes(seed[0])!r} {seed[1]}"
        message["tool_calls"] = [
            _whole_call(call, f"{name} {at}") for at, call in enumerate(decode_envelopes(message["tool_calls"]))
        ]
        changed = True
    return changed


def arguments_of(raw: msgspec.Raw) -> Any:
    """A call's arguments as a JSON text; an object becomes its text, null stays null."""
    text = bytes(raw)
    return text.decode() if text[:1] == _OBJECT else raw


def _whole_call(call: Members, seed: str) -> Members:
    """A call of a whole answer: no index, an id, and arguments that are a JSON text."""
    call.pop("index", None)
    if call.get("id", NULL) in (NULL, _EMPTY_TEXT):
        call["id"] = synthesised_id(seed)
    if call.get("type", NULL) == NULL:
        call["type"] = "function"
    if call.get("function", NULL) != NULL:
        function: Members = decode_envelope(call["function"])
        arguments = arguments_of(function.get("arguments", NULL))
        # Left out by OpenRouter where a function takes none (recorded): that is an empty object.
        function["arguments"] = "{}" if arguments == NULL else arguments
        call["function"] = function
    return call


def _said(members: Members, name: str) -> bool:
    value = members.get(name, NULL)
    return value not in (NULL, _EMPTY_TEXT) and bool(value)


def _spoken(content: msgspec.Raw) -> tuple[str, str]:
    """What a list of chunks says, and what it thinks; chunks of other types (references) have no text to show."""
    said, thought = [], []
    for chunk in decode_envelopes(content):
        if _said(chunk, "text"):
            said.append(decode_text(chunk["text"]))
        elif _said(chunk, "thinking"):
            thinking = chunk["thinking"]
            inner = bytes(thinking)[:1] == _LIST
            thought.append(_spoken(thinking)[0] if inner else decode_text(thinking))
    return "".join(said), "".join(thought)


class _Counted(Usage):
    """Usage, with the places where servers say what OpenAI says elsewhere."""

    cached_tokens: int | None = None
    num_cached_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None


_counted: Final = decoder_of(_Counted | None)


def tidy_usage(raw: msgspec.Raw) -> tuple[msgspec.Raw, Usage | None]:
    """Usage as OpenAI counts it, and what it says: the same bytes wherever they are right, or are no usage.

    A missing total is the sum. Reasoning that stands beside the completion (xAI: total = prompt + completion +
    reasoning) is counted into it. Cached tokens move into the prompt's details (Together and Moonshot:
    `cached_tokens`, Mistral: `num_cached_tokens`, DeepSeek: `prompt_cache_hit_tokens`). Source: recorded traffic.
    """
    try:
        counted = _counted(raw)
    except JSONDecodeError:
        return raw, None
    if counted is None or _as_openai(counted):
        return raw, counted
    changes = _recount(counted)
    if not changes:
        return raw, counted
    fields: Members = decode_envelope(raw)
    if "cached_tokens" in changes:
        details = fields.get("prompt_tokens_details", NULL)
        told: Members = {} if details == NULL else decode_envelope(details)
        fields["prompt_tokens_details"] = {**told, "cached_tokens": changes.pop("cached_tokens")}
    tidied = msgspec.Raw(encode_json({**fields, **changes}))
    return tidied, read_usage(tidied)


def _as_openai(counted: _Counted) -> bool:
    """Whether nothing needs a second look: the sum is right, and nothing stands beside."""
    return (
        counted.prompt_tokens is not None
        and counted.total_tokens == counted.prompt_tokens + (counted.completion_tokens or 0)
        and counted.cached_tokens is None
        and counted.num_cached_tokens is None
        and counted.prompt_cache_hit_tokens is None
    )


def _recount(counted: _Counted) -> dict[str, int]:
    changes: dict[str, int] = {}
    prompt, completion, total = counted.prompt_tokens, counted.completion_tokens or 0, counted.total_tokens
    told = counted.completion_tokens_details
    reasoning = (told.reasoning_tokens if told else None) or 0
    if prompt is not None and total is None:
        changes["total_tokens"] = prompt + completion
    elif prompt is not None and reasoning and total == prompt + completion + reasoning:
        changes["completion_tokens"] = completion + reasoning
    beside = (counted.cached_tokens, counted.num_cached_tokens, counted.prompt_cache_hit_tokens)
    cached = next((count for count in beside if count is not None), None)
    details = counted.prompt_tokens_details
    if cached is not None and (details is None or details.cached_tokens is None):
        changes["cached_tokens"] = cached
    return changes
