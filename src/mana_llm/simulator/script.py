"""What an upstream is told to do: a `Script` describes one answer, its `Fault` what goes wrong in it.

Both are frozen values, so a script may be shared, compared and sent as JSON to the control endpoint.
Times are seconds, sizes are bytes. `after` counts pieces of content (reasoning, text, tool calls).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Json = dict[str, Any]

FaultKind = Literal[
    "refuse",  # accept, then reset (before any request byte is read, when a rule for all models says so)
    "hang",  # how: headers (nothing at all, default), body (after the headers), role (after the role), chunks
    "status",  # code, retry_after, reason, message: the dialect's real error body
    "cut",  # after; how: fin, rst, json (half a line, then a clean end), clean, half (write side shut)
    "error",  # after; how: data (default), event (Groq), done (OpenRouter: [DONE] follows)
    "malformed",  # after: one line that is no JSON, then the stream goes on
    "drip",  # pace_s: one byte at a time
    "html",  # 200 with a page of HTML
    "type",  # the right body under the content type `how` (text-plain by default)
    "empty",  # an answer that ends without content
    "filter",  # after: content, then the dialect's content filter; Gemini with after 0 blocks the prompt
    "length",  # the token ceiling is reached before any content
    "flood",  # how: chunks (endless), line (one line of `bytes`, 0 is endless), event (one data event)
    "headers",  # how: cookie, hop, te, latin1, interim, many, big; count, bytes
    "redirect",  # code (302 by default), Location: `message`
    "gzip",  # gzip, though nobody asked; how: bomb with `bytes` unpacked
    "undelimited",  # neither Content-Length nor chunked: the end of the connection ends the body
    "overlong",  # a Content-Length that is `bytes` larger than the body, then EOF
    "null",  # choices, message or candidates are null
    "usage",  # how: negative (default), nan
    "no-done",  # everything but the last mark ([DONE]; Ollama and Gemini: the last line)
    "no-finish",  # [DONE], but no finish reason was ever given
    "idle-bytes",  # `pace_s` after the answer, bytes nobody asked for arrive on the idle connection
    "close",  # after a keep-alive answer the connection is closed; how: fin, rst
    "dead",  # the next request on the same connection is met with an end; how: fin, rst
]
UsagePlace = Literal["separate", "finish", "both", "x_groq", "none"]
Finish = Literal["stop", "length", "tool_calls", "content_filter", "eos"]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong; each kind reads only the members that its comment above names."""

    kind: FaultKind
    after: int = 0
    how: str = ""
    code: int = 0
    retry_after: str | None = None
    reason: str = ""
    message: str = ""
    pace_s: float = 0.0
    bytes: int = 0
    count: int = 0


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that the simulated model makes."""

    name: str
    arguments: Json = {}  # msgspec copies an empty default for each instance


class Usage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Token counts; `reasoning` is part of `completion`, `cached` is part of `prompt`, as OpenAI counts."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    cached: int = 0


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer, told in advance; `Script()` is the normal answer, at once and in words.

    `None` means the default of the dialect and flavour.
    """

    text: str | None = None
    text_bytes: int = 0
    chunks: int = 0
    first_s: float = 0.0
    pace_s: float = 0.0
    reasoning: str | None = None
    tools: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    usage_place: UsagePlace | None = None
    finish: Finish | None = None
    role_each: bool | None = None
    comments: int | None = None
    crlf: bool | None = None
    slice_bytes: int = 0
    require_key: str | None = None
    headers: dict[str, str] = {}  # msgspec copies an empty default for each instance
    fault: Fault | None = None

    def fails(self, kind: FaultKind) -> Fault | None:
        """The fault when it is of this kind, else None."""
        return self.fault if self.fault is not None and self.fault.kind == kind else None
