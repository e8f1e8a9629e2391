"""The rows of the walk's table: what happens before content, whether the walk goes on, and what comes of it.

The limits are those that the gateway has by default; where a case sets one, it is no other limit's default.
"""

import dataclasses
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest

from mana_llm.settings import Secret, Settings

SOFT_COMMIT_S = 15.0
"""When the status of a stream leaves by default, whatever comes later."""
OURS_S = 40.0
"""A limit that a case sets."""


class Case(NamedTuple):
    """One thing that happens. `health` is failure, none, parked, or the seconds of a Retry-After.

    `direct` is what a direct model's client sees: status and code. `after_s` is how long it takes to happen. `peer` is
    who stands at Together's address: a port that refuses, or one that never takes a connection.
    """

    name: str
    model: str
    walks: bool
    reason: str
    health: Any = "failure"
    direct: tuple[int, str | None] = (503, "no_healthy_provider")
    fields: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it
    settings: dict[str, Any] = {}  # noqa: RUF012
    streams: tuple[bool, ...] = (False, True)
    after_s: float = 0.0
    peer: str = "closed"


SERVER, PROTOCOL, TIMEOUT = "ProviderServerError", "ProviderProtocolError", "ProviderTimeoutError"
REQUEST = "ProviderRequestError"
CASES = [
    Case("nobody listens", "together/any", True, "ProviderConnectError"),
    Case("reset on connect", "openai/sim.refuse", True, PROTOCOL),
    Case("ollama resets on connect", "ollama/sim.refuse", True, PROTOCOL),
    Case("gemini resets on connect", "google/sim.refuse", True, PROTOCOL),
    Case("no connection in time", "together/any", True, TIMEOUT, after_s=5.0, peer="full"),
    Case("no answer", "openai/sim.hang", True, TIMEOUT, after_s=60.0, streams=(True,)),
    Case("no answer of ollama", "ollama/sim.hang", True, TIMEOUT, after_s=120.0, streams=(True,)),
    Case("no answer of gemini", "google/sim.hang", True, TIMEOUT, after_s=60.0, streams=(True,)),
    Case("no answer within a limit of ours", "openai/sim.hang", True, TIMEOUT,
         settings={"ttft_s": OURS_S}, after_s=OURS_S),
    Case("head and silence", "openai/sim.hang.how-body", True, TIMEOUT, after_s=60.0),
    Case("head and silence beyond a limit of ours", "openai/sim.hang.how-body", True, TIMEOUT,
         settings={"ttft_s": OURS_S}, after_s=OURS_S),
    Case("role and silence", "openai/sim.hang.how-role", True, TIMEOUT, after_s=60.0, streams=(True,)),
    Case("silence in a body", "openai/sim.hang.how-chunks.after-1", True, TIMEOUT, after_s=60.0, streams=(False,)),
    Case("silence in a body beyond a limit of ours", "openai/sim.hang.how-chunks.after-1", True, TIMEOUT,
         settings={"idle_s": OURS_S}, after_s=OURS_S, streams=(False,)),
    Case("end before content", "openai/sim.cut.after-0", True, PROTOCOL),
    Case("reset before content", "openai/sim.cut.after-0.how-rst", True, PROTOCOL),
    Case("half a line", "openai/sim.cut.after-0.how-json", True, PROTOCOL),
    Case("ollama ends before content", "ollama/sim.cut.after-0", True, PROTOCOL),
    Case("gemini ends before content", "google/sim.cut.after-0", True, PROTOCOL),
    Case("half a whole answer", "openai/sim.cut.after-1", True, PROTOCOL, streams=(False,)),
    Case("half a whole answer of ollama", "ollama/sim.cut.after-1", True, PROTOCOL, streams=(False,)),
    Case("half a whole answer of gemini", "google/sim.cut.after-1", True, PROTOCOL, streams=(False,)),
    Case("longer than it is", "openai/sim.overlong", True, PROTOCOL, streams=(False,)),
    *(Case(f"status {code}", f"openai/sim.status.code-{code}", True, SERVER) for code in (500, 501, 502, 503, 504,
      520, 529, 599)),
    Case("gemini 500", "google/sim.status.code-500", True, SERVER),
    Case("ollama 500", "ollama/sim.status.code-500", True, SERVER),
    Case("503 with a time", "openai/sim.status.code-503.retry-7", True, SERVER, 7.0),
    Case("429 with a time", "openai/sim.status.code-429.retry-7", True, "ProviderRateLimitError", 7.0,
         (429, "rate_limit_exceeded")),
    Case("gemini 429 with a time", "google/sim.status.code-429.retry-7", True, "ProviderRateLimitError", 7.0,
         (429, "rate_limit_exceeded")),
    Case("429", "openai/sim.status.code-429", True, "ProviderRateLimitError", "failure", (429, "rate_limit_exceeded")),
    Case("ollama 429 with a time", "ollama/sim.status.code-429.retry-7", True, "ProviderRateLimitError", 7.0,
         (429, "rate_limit_exceeded")),
    *(Case(name, f"{provider}/sim.status.code-402", True, "ProviderQuotaError", "parked", (429, "insufficient_quota"))
      for name, provider in (("402", "openrouter"), ("ollama 402", "ollama"), ("gemini 402", "google"))),
    Case("402 with a time", "openai/sim.status.code-402.retry-7", True, "ProviderQuotaError", "parked",
         (429, "insufficient_quota")),
    *(Case(f"out of quota with {code}", f"openai/sim.status.code-{code}.reason-quota", True, "ProviderQuotaError",
           "parked", (429, "insufficient_quota")) for code in (400, 403, 429, 503)),
    Case("gemini out of quota", "google/sim.status.code-429.reason-quota", True, "ProviderQuotaError", "parked",
         (429, "insufficient_quota")),
    *(Case(f"status {code}", f"openai/sim.status.code-{code}", True, SERVER) for code in (408, 409, 425, 498, 499)),
    *(Case(f"redirect {code}", f"openai/sim.redirect.code-{code}", True, SERVER) for code in (300, 301, 302, 303,
      304, 307, 308)),
    Case("tool_use_failed", "groq/sim.status.code-400.reason-tool_use_failed", True, SERVER, "none"),
    Case("tool_use_failed in a 200", "groq/sim.error.after-0.reason-tool_use_failed", True, SERVER, "none"),
    Case("a page of HTML", "openai/sim.html", True, PROTOCOL),
    Case("a page of HTML from ollama", "ollama/sim.html", True, PROTOCOL),
    Case("a page of HTML from gemini", "google/sim.html", True, PROTOCOL),
    Case("another type", "openai/sim.type.how-text-plain", True, PROTOCOL),
    Case("another type from ollama", "ollama/sim.type.how-text-plain", True, PROTOCOL),
    Case("another type from gemini", "google/sim.type.how-text-plain", True, PROTOCOL),
    Case("a line that is no JSON", "openai/sim.malformed.after-0", True, PROTOCOL),
    Case("a line from ollama that is no JSON", "ollama/sim.malformed.after-0", True, PROTOCOL),
    Case("a line from gemini that is no JSON", "google/sim.malformed.after-0", True, PROTOCOL),
    Case("an error in the stream", "openai/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("an error event", "groq/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("an error and [DONE]", "openrouter/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("an error in a line", "ollama/sim.error.after-0", True, SERVER, streams=(True,)),
    Case("an error in gemini's stream", "google/sim.error.after-0", True, SERVER, streams=(True,)),
    *(Case(f"an error in a 200 of {provider}", f"{provider}/sim.error.after-0", True, SERVER, streams=(False,))
      for provider in ("openai", "groq", "openrouter", "ollama", "google")),
    Case("choices are null", "openai/sim.null", True, PROTOCOL),
    Case("message is null", "ollama/sim.null", True, PROTOCOL, streams=(False,)),
    Case("candidates are null", "google/sim.null", True, PROTOCOL),
    Case("it cannot speak", "ollama/any", False, "ProviderCapabilityError", "none", (400, "provider_capability"),
         fields={"modalities": ["audio"]}),
    Case("it has no tools", "ollama/gemma3:4b", False, "ProviderCapabilityError", "none", (400, "provider_capability"),
         fields={"tools": [{"type": "function", "function": {"name": "time"}}]}),
    Case("it does not see", "ollama/qwen2.5:7b", False, "ProviderCapabilityError", "none", (400, "provider_capability"),
         fields={"messages": [{"role": "user", "content": [
             {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}]}),
    *(Case(f"our key gets {code}", f"{provider}/sim.status.code-{code}", False, "ProviderAuthError", "none",
           (502, "provider_auth")) for provider in ("openai", "google", "ollama") for code in (401, 403)),
    Case("a filter leaves nothing", "openai/sim.filter", False, "ProviderBlockedError", "none",
         (422, "content_filter")),
    Case("gemini blocks the prompt", "google/sim.filter", False, "ProviderBlockedError", "none",
         (422, "content_filter")),
    Case("gemini blocks the answer", "google/sim.filter.how-candidate", False, "ProviderBlockedError", "none",
         (422, "content_filter")),
    Case("gemini's ceiling", "google/sim.length", False, "ProviderTruncatedError", "none", (502, "provider_truncated")),
    Case("ollama's ceiling", "ollama/sim.length", False, "ProviderTruncatedError", "none", (502, "provider_truncated")),
    Case("unknown model", "openai/sim.status.code-404", False, REQUEST, "none", (404, "model_not_found")),
    Case("unknown to ollama", "ollama/sim.status.code-404", False, REQUEST, "none", (404, "model_not_found")),
    Case("unknown to gemini", "google/sim.status.code-404", False, REQUEST, "none", (404, "model_not_found")),
    Case("too long", "openai/sim.status.code-400.reason-context", False, REQUEST, "none",
         (400, "context_length_exceeded")),
    Case("too long for ollama", "ollama/sim.status.code-400.reason-context", False, REQUEST, "none",
         (400, "context_length_exceeded")),
    Case("too long for gemini", "google/sim.status.code-400.reason-context", False, REQUEST, "none",
         (400, "context_length_exceeded")),
    *(Case(f"status {code}", f"openai/sim.status.code-{code}.reason-odd", False, REQUEST, "none", (code, "odd"))
      for code in (400, 404, 405, 406, 410, 413, 415, 418, 422, 431, 451)),
]  # fmt: skip
EVERY = [
    pytest.param(case, stream, id=f"{case.name}-{'streamed' if stream else 'plain'}")
    for case in CASES
    for stream in case.streams
]
FALLBACK = "mistral/sim.ok"
"""Its provider is no case's own, so that its answer says nothing about one that failed."""


USED = {"openai", "openrouter", "groq", "together", "google", FALLBACK.partition("/")[0], "deepseek"}
UNUSED = {
    spec.name: Secret()
    for spec in dataclasses.fields(Settings)
    if spec.name.endswith("_api_key") and spec.name.removesuffix("_api_key") not in USED
}
"""No key for providers that no case needs: they would be asked for their models in every one."""


@contextmanager
def settings_of(case: Case) -> Iterator[dict[str, Any]]:
    """The case's settings, with its peer there."""
    with ExitStack() as held:
        # Bound and not listening refuses, and nobody else can take the port.
        bound = held.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        if case.peer == "full":
            bound.listen(0)
            for _ in range(3):
                waiting = held.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(bound.getsockname())
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        yield {"together_base_url": url, **UNUSED, **case.settings}


def aliases_of(*chain: str) -> str:
    """A file with the one alias that tests of the table ask for."""
    return f"aliases: {{mana/two: {{chain: {list(chain)}}}}}\ndefault: mana/two\n"
