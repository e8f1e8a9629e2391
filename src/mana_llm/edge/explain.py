"""`GET /v1/aliases/{alias}/explain`: what would answer now, and why not the others."""

import difflib
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from mana_llm.edge.reply import Receive, Scope, Send, send_json
from mana_llm.ports import Dialect
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.routing.explain import Explainer
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.embeddings import EmbeddingsRequest
from mana_llm.schema.errors import RequestError
from mana_llm.schema.targets import Route
from mana_llm.schema.wire import encode_json

_SUFFIX: Final = "/explain"
_PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAA"
    "AABJRU5ErkJggg=="
)
_SILENCE: Final = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
_SCHEMA: Final = {"name": "any", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
FEATURES: Final = ("tools", "image", "json", "audio", "stream")
"""What a request may be said to have, as words of the query."""
_YES: Final = ("", "1", "true", "yes")
_NO: Final = ("0", "false", "no")


class Explain(msgspec.Struct, frozen=True):
    """The route, and what it looks with."""

    registry: AliasRegistry
    explainer: Explainer
    dialect: Dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Each entry of the alias's chain: what a request would meet there now, and why; and who would be asked first.

        Raises:
            RequestError: 404 for an unknown alias, 400 for a feature that is none, or that an alias for embeddings
                does not have.
        """
        name = scope["rest"]
        if not name.endswith(_SUFFIX):
            message = "There is nothing here. Use GET /v1/aliases or GET /v1/aliases/{alias}/explain."
            raise RequestError(message, status=404, code="not_found")
        needs = _features(scope["query_string"])
        route = self.registry.table.route_of(name.removesuffix(_SUFFIX))
        request = self._chat(needs) if route.policy.kind == "chat" else self._embeddings(route, needs)
        explanation = await self.explainer.explain(route, request, scope["exchange"])
        answers = explanation.answers
        answer = {
            "object": "alias.explanation",
            "alias": route.alias,
            "version": route.config,
            "needs": needs,
            "answers": answers and answers.model,
            "expected_wait_s": answers and answers.expected_wait_s,
            "hedge_after_s": route.policy.hedge_after_s,
            "chain": explanation.chain,
        }
        await send_json(send, scope["exchange"], answer)

    def _embeddings(self, route: Route, needs: list[str]) -> EmbeddingsRequest:
        """A request for embeddings, which has no features. Raises RequestError 400 if one was named."""
        if needs:
            message = f"An alias for embeddings is asked without {', '.join(needs)}: leave that out."
            raise RequestError(message, code="unknown_parameter", param=needs[0])
        return self.dialect.decode_embeddings(encode_json({"model": route.asked, "input": "Hello"}))

    def _chat(self, needs: list[str]) -> ChatRequest:
        """A request that has these features, such as a client would send."""
        parts: list[dict[str, Any]] = [{"type": "text", "text": "Hello"}]
        fields: dict[str, Any] = {"messages": [{"role": "user", "content": parts}], "stream": "stream" in needs}
        if "image" in needs:
            parts.append({"type": "image_url", "image_url": {"url": _PIXEL}})
        if "audio" in needs:
            parts.append({"type": "input_audio", "input_audio": {"data": _SILENCE, "format": "wav"}})
        if "tools" in needs:
            fields["tools"] = [{"type": "function", "function": {"name": "any", "parameters": _SCHEMA["schema"]}}]
        if "json" in needs:
            fields["response_format"] = {"type": "json_schema", "json_schema": _SCHEMA}
        return self.dialect.decode_chat(encode_json(fields))


def _features(query: bytes) -> list[str]:
    """The features that a query names, each once: `tools`, `tools=1` or `tools=true`, and not `tools=0`; of several
    that contradict each other the last counts.

    Raises:
        RequestError: 400 for a name or a value that is none.
    """
    found: dict[str, bool] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in FEATURES:
            near = difflib.get_close_matches(name, FEATURES, n=1) or FEATURES
            raise RequestError(
                f"{name[:64]!a} is no feature. Did you mean {', '.join(near)}?", code="unknown_parameter"
            )
        if value.lower() not in (*_YES, *_NO):
            raise RequestError(f"{name} is {value[:64]!a}; use true or false.", code="invalid_value", param=name)
        found[name] = value.lower() in _YES
    return [name for name, given in found.items() if given]
