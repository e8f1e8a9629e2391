"""Tells whether Ollama cut a prompt, which it does without a word where one outgrows the context.

It drops the oldest messages, and if the last one alone is too long, its middle. What it then evaluated is
`prompt_eval_count`, the whole prompt whether cached or not. That is compared with the texts that were sent:

- more characters than `CHARS_PER_TOKEN_MAX` for each token: no text is so dense. In 63 recorded chats the most
  was 3.95; English prose is 4 to 4.5, code 3, other scripts less; long runs of white space are counted as one
  character, since tokenisers join them. Only prompts of more than the smallest default context can be cut, or of
  more than the model's own where that is known.
- or, where the model's context is known, a prompt that fills it: none is left to answer in. A count above it
  shows that another context was in force, so that nothing follows.

Where so many characters cannot fit the context that is known, the prompt will be cut, and that is certain before
anything is answered.

Templates, tools, calls, thinking and images add tokens and are not counted as characters. So what this calls cut
was cut; a prompt that lost less than about a third is only found if it fills the context, and may pass as whole.
"""

import re
from typing import Final

import msgspec

from mana_llm.providers.failures.fields import Fields
from mana_llm.schema.chat import Message
from mana_llm.schema.wire import JSONDecodeError, decode_json

CHARS_PER_TOKEN_MAX: Final = 7.5
"""Six characters to a token, with a margin of a quarter."""
CONTEXT_TOKENS_MIN: Final = 2_048
"""The smallest default of `num_ctx` that Ollama ever had. Source: docs/sources.md (Ollama); 2048 before 0.6."""

_RUN: Final = re.compile(r"(\s|[-=_*#.~])\1{3,}")
_PREFIXES: Final = ("registry.ollama.ai/", "library/")


class _Loaded(msgspec.Struct):
    name: str = ""
    model: str = ""
    context_length: int | None = None


class _Running(msgspec.Struct):
    # null from a server that has loaded nothing: Go encodes an empty list so.
    models: list[_Loaded] | None = None


def can_be_cut(fields: Fields) -> bool:
    """Whether the texts of a request may outgrow a default context; its messages must be there.

    No token is less than a byte, and the JSON around a message is longer than what a template puts there.
    """
    sent_bytes = memoryview(fields["messages"]).nbytes
    if "tools" in fields:
        sent_bytes += memoryview(fields["tools"]).nbytes
    return sent_bytes > CONTEXT_TOKENS_MIN


def loaded_context(body: bytes | None, model: str) -> int | None:
    """The context that `model` was loaded with, from an answer of /api/ps; None if that does not say."""
    if body is None:
        return None
    try:
        running: _Running = decode_json(body, _Running)
    except JSONDecodeError:
        return None
    wanted = full_name(model)
    lengths = [at.context_length for at in running.models or () if wanted == full_name(at.name or at.model)]
    return next((length for length in lengths if length is not None and length > 0), None)


def full_name(model: str) -> str:
    """One name for every way to write a model's: with its tag, without the default registry, lower-case."""
    name = model.lower()
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    # The colon of a registry's port is no tag's.
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def was_cut(messages: list[Message], evaluated: int | None, window: int | None = None) -> bool:
    """Whether a part of the messages was not evaluated.

    `evaluated` counts tokens, None or 0 where the server did not say; `window` is how many the model takes, None
    where that is not known.
    """
    if not evaluated or evaluated < 0:
        return False
    if window is not None and evaluated == window:
        return True
    least = CONTEXT_TOKENS_MIN if window is None else min(window, CONTEXT_TOKENS_MIN)
    return outgrows(messages, max(evaluated, least))


def outgrows(messages: list[Message], tokens: int) -> bool:
    """Whether the messages have more characters than so many tokens can stand for."""
    least = CHARS_PER_TOKEN_MAX * tokens
    texts = [text for message in messages for text in _texts_of(message)]
    if sum(map(len, texts)) <= least:
        return False
    # Rare from here on: worth a closer look.
    return sum(len(_RUN.sub(r"\1", text)) for text in texts) > least


def _texts_of(message: Message) -> list[str]:
    content = message.content
    if isinstance(content, str):
        return [content]
    return [part.text for part in content or () if part.text is not None]
