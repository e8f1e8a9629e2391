"""Tool calls in a stream: numbered by what they are, id and name said once, arguments always a text.

Servers differ in all of it: calls without an index or an id (Mistral), one index for two calls, ids and names that
are repeated or empty in every piece (Alibaba, Mistral), arguments that are null or an object. Clients put pieces
together by index alone. Source: recorded traffic; openai-python#2806 and #3178.
"""

from typing import Any, Final

import msgspec

from mana_llm.providers.compatible_answer import arguments_of
from mana_llm.providers.toolcalls import synthesised_id
from mana_llm.schema.wire import NULL, decode_envelope, decode_envelopes, decoder_of

_index: Final = decoder_of(int | None)
_text: Final = decoder_of(str | None)
_ONCE: Final = ("index", "id", "type", "function")


class _Begun:
    """A call whose first piece has come: what the server called it, and whether its name was said."""

    __slots__ = ("id", "index", "named")

    def __init__(self, call_id: str, index: int | None) -> None:
        self.id = call_id
        self.index = index
        self.named = False


class CallDeltas:
    """The calls of one streamed choice. `seed` makes the ids of those that have none."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._begun: list[_Begun] = []

    def tidy(self, raw: msgspec.Raw) -> list[dict[str, Any]]:
        """The pieces of one delta.

        Raises:
            MsgspecError: if they are no list of objects, as msgspec says it; JSONDecodeError for their members.
        """
        touched: set[int] = set()
        return [self._piece(call, touched) for call in decode_envelopes(raw)]

    def _piece(self, call: dict[str, msgspec.Raw], touched: set[int]) -> dict[str, Any]:
        index, call_id = _index(call.get("index", NULL)), _text(call.get("id", NULL)) or ""
        raw = call.get("function", NULL)
        function: dict[str, Any] = {} if raw == NULL else decode_envelope(raw)
        name = _text(function.pop("name", NULL))
        at = self._at(_Begun(call_id, index), self._taken(name, touched, marked=bool(call_id) or index is not None))
        piece: dict[str, Any] = {"index": len(self._begun) if at is None else at}
        if at is None:
            at = len(self._begun)
            self._begun.append(_Begun(call_id, index))
            piece["id"] = call_id or synthesised_id(f"{self._seed} {at}")
            piece["type"] = "function" if call.get("type", NULL) == NULL else call["type"]
        touched.add(at)
        piece |= {member: value for member, value in call.items() if member not in _ONCE}
        if raw != NULL:
            piece["function"] = self._function(self._begun[at], name, function)
        return piece

    def _taken(self, name: str | None, touched: set[int], *, marked: bool) -> set[int]:
        """The calls that a piece cannot belong to: a name begins a call where another piece of the same delta
        already went to the one that fits, and where neither index nor id says which one that is.
        """
        if not name:
            return set()
        return touched if marked else set(range(len(self._begun)))

    def _at(self, came: _Begun, taken: set[int]) -> int | None:
        """Which call a piece belongs to; None if it begins one.

        By id where both have one, else by index where both have one; a piece with neither goes on with the last.
        """
        for at, known in enumerate(self._begun):
            if came.id and came.id == known.id:
                return at
        for at in range(len(self._begun) - 1, -1, -1):
            known = self._begun[at]
            if not (came.id and known.id) and _goes_on(came, known):
                return None if at in taken else at
        return None

    def _function(self, begun: _Begun, name: str | None, members: dict[str, Any]) -> dict[str, Any]:
        arguments = arguments_of(members.pop("arguments", NULL))
        said: dict[str, Any] = {"arguments": "" if arguments == NULL else arguments, **members}
        if name and not begun.named:
            begun.named = True
            return {"name": name, **said}
        return said


def _goes_on(came: _Begun, known: _Begun) -> bool:
    """Whether a piece belongs to a call, judged without ids."""
    if came.index is None or known.index is None:
        return not came.id
    return came.index == known.index
