"""Which pages of other origins may call, by Starlette's rules; what is told of it is an answer like any other."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from starlette.datastructures import Headers as PageHeaders
from starlette.middleware.cors import CORSMiddleware

from mana_llm.edge.reply import Scope, Send
from mana_llm.schema.errors import RequestError
from mana_llm.schema.wire import Headers

_OWN: Final = (b"content-length",)
"""Said of every answer anyway."""


class CrossOrigin:
    """`rules` are asked, and never called as an application: a preflight would be no request of ours then."""

    def __init__(self, rules: CORSMiddleware) -> None:
        self._rules = rules

    def telling(self, scope: Scope, send: Send) -> Send:
        """`send`, with what lets a page read the answer, errors too."""
        return partial(self._rules.send, send=send, request_headers=PageHeaders(scope=scope))

    def preflight(self, scope: Scope) -> tuple[Headers, bytes]:
        """The headers and the body that allow a page to ask.

        Raises:
            RequestError: 400 if it may not.
        """
        response = self._rules.preflight_response(PageHeaders(scope=scope))
        body = bytes(response.body)
        if response.status_code != 200:
            message = f"{body.decode()}; see CORS_ORIGINS."
            raise RequestError(message, status=response.status_code, code="cors_disallowed")
        return [field for field in response.raw_headers if field[0] not in _OWN], body


def is_preflight(given: Mapping[bytes, bytes]) -> bool:
    """Whether an OPTIONS request is a browser's question. Source: Fetch, 3.3.2."""
    return b"origin" in given and b"access-control-request-method" in given
