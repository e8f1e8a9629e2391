"""Refusals by the connection itself, of what is no request that an application could see: answered as all else is,
and observed as a request that ended.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from mana_llm.edge.headers import common_headers
from mana_llm.edge.reply import error_headers
from mana_llm.kit.ids import Ids, sane_id
from mana_llm.ports import Clock, Observer
from mana_llm.routing.aliases import AliasRegistry
from mana_llm.schema.errors import GatewayError
from mana_llm.schema.events import Exchange
from mana_llm.schema.wire import Headers, encode_json

NOTHING: Final[Mapping[bytes, bytes]] = {}
"""The headers of what was refused before they were read."""


class Refused(msgspec.Struct, frozen=True):
    """What is wrong with a request; `given` are its headers as far as they came, and `waited_s` is how long the rest
    was waited for.
    """

    error: GatewayError
    given: Mapping[bytes, bytes] = NOTHING
    waited_s: float = 0.0


class Doorkeeper(msgspec.Struct, frozen=True):
    """Says and has noted what was refused. `ids` name it where the client does not."""

    observer: Observer
    clock: Clock
    ids: Ids
    aliases: AliasRegistry

    def refuse(self, refused: Refused, peer: str) -> bytes:
        """The answer, less its status line and what the server says of itself: it ends the connection to `peer`."""
        error, waited_s = refused.error, refused.waited_s
        now_s, asked_id = self.clock.now_s(), refused.given.get(b"x-request-id")
        exchange = Exchange((sane_id(asked_id) if asked_id else None) or self.ids.next(), now_s - waited_s)
        exchange.config = self.aliases.table.version
        exchange.peer = peer
        # Nothing of it was work.
        exchange.waited_s = waited_s
        self.observer.request_began()
        body = encode_json(error.body())
        headers = [*error_headers(exchange, error, now_s), *common_headers(exchange)]
        headers += ((b"content-length", b"%d" % len(body)), (b"connection", b"close"))
        exchange.ended_s = now_s
        self.observer.request_ended(exchange)
        return render_fields(headers) + b"\r\n" + body


def render_fields(headers: Headers) -> bytes:
    """Header lines, each ended by CRLF."""
    return b"".join([b"%b: %b\r\n" % field for field in headers])
