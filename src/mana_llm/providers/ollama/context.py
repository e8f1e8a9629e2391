"""Tells whether Ollama cut a prompt, which it does without a word where one outgrows `num_ctx`.

It drops the oldest messages, and if the last one alone is too long, its middle. What it then evaluated is
`prompt_eval_count`, the whole prompt whether cached or not. That is compared with the texts that were sent:

- more characters than `CHARS_PER_TOKEN_MAX` for each token: no text is so dense. In 63 recorded chats the most
  was 3.95; English prose is 4 to 4.5, code 3, other scripts less; long runs of white space are counted as one
  character, since tokenisers join them. Only prompts of more than the smallest default context can be cut.
- or, where the model's window is known from /api/show, a prompt that fills it: none is left to answer in.

Templates, tools, calls, thinking and images add tokens and are not counted as characters. So what this calls cut
was cut; a prompt that lost less than about a third is only found by the second rule, and may pass as whole.
"""

import re
from typing import Final

from mana_llm.schema.chat import Message

CHARS_PER_TOKEN_MAX: Final = 7.5
"""Six characters to a token, with a margin of a quarter."""
CONTEXT_TOKENS_MIN: Final = 2_048
"""The smallest default of `num_ctx` that Ollama ever had. Source: docs/sources.md (Ollama); 2048 before 0.6."""

_RUN: Final = re.compile(r"(\s|[-=_*#.~])\1{3,}")


def was_cut(messages: list[Message], evaluated: int | None, window: int | None = None) -> bool:
    """Whether a part of the messages was not evaluated.

    `evaluated` counts tokens, None or 0 where the server did not say; `window` is how many the model takes, None
    where that is not known.
    """
    if not evaluated or evaluated < 0:
        return False
    if window is not None and evaluated >= window:
        return True
    least = CHARS_PER_TOKEN_MAX * max(evaluated, CONTEXT_TOKENS_MIN)
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
