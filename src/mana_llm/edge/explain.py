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
from mana_llm.schema.errors import RequestError
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
        """Each entry of the alias's chain: kept, skipped, or ending the walk, and why.

        Raises:
            RequestError: 404 for an unknown alias, 400 for a feature that is none.
        """
        name = scope["rest"]
        if not name.endswith(_SUFFIX):
            message = "There is nothing here. Use GET /v1/aliases or GET /v1/aliases/{alias}/explain."
            raise RequestError(message, status=404, code="not_found")
        needs = _features(scope["query_string"])
        route = self.registry.table.route_of(name.removesuffix(_SUFFIX))
        request = self._request(needs) if route.policy.kind == "chat" else None
        chain = await self.explainer.explain(route, request)
        answer = {
            "object": "alias.explanation",
            "alias": route.alias,
            "version": route.config,
            "needs": needs,
            "answers": next((row.model for row in chain if row.decision == "kept"), None),
            "chain": chain,
        }
        await send_json(send, scope["exchange"], answer)

    def _request(self, needs: list[str]) -> ChatRequest:
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
    """The features that a query names: `tools`, `tools=1` or `tools=true`, and not `tools=0`.

    Raises:
        RequestError: 400 for a name or a value that is none.
    """
    found = []
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in FEATURES:
            near = difflib.get_close_matches(name, FEATURES, n=1) or FEATURES
            raise RequestError(
                f"{name[:64]!a} is no feature. Did you mean {', '.join(near)}?", code="unknown_parameter"
            )
        if value.lower() not in (*_YES, *_NO):
            raise RequestError(f"{name} is {value[:64]!a}; use true or false.", code="invalid_value", param=name)
        if value.lower() in _YES:
            found.append(name)
    return found
