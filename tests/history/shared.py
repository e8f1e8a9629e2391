"""Requests that asked the same at the same time, and may share calls: what must hold of them together."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.history.records import Asked, Called, Seen


def winner_of(body: dict[str, Any], calls: list[Called]) -> Called | None:
    """The call that gave a whole answer, by what it says."""
    if "data" in body:
        vector = body["data"][0]["embedding"]
        return next((call for call in calls if call.vector == vector), None)
    text = body["choices"][0]["message"]["content"]
    return next((call for call in calls if call.text == text), None)


def is_hit(line: dict[str, Any]) -> bool:
    """Whether the log says that a request got somebody else's answer or error."""
    return line.get("cache") == "hit"


class Group:
    """Requests with one body. `lines` are the log's, of all of them."""

    def __init__(self, asked: list[Asked], calls: list[Called], seen: list[Seen], lines: list[dict[str, Any]]) -> None:
        self.asked, self.calls, self.seen = asked, calls, seen
        self.hits = {line["request_id"] for line in lines if is_hit(line)}
        self.told = sum(line.get("attempts", 0) for line in lines)

    def problems(self) -> Iterator[str]:
        """As many calls as walks, each the answer of one walk; a hit has that of somebody else's."""
        walks = [asked for asked in self.asked if asked.id not in self.hits]
        dropped = Counter(each.provider for each in self.seen if each.dropped)
        came = Counter(each.provider for each in self.seen)
        for provider, count in came.items():
            if count - dropped[provider] > len(walks):
                yield f"{provider} was asked {count} times for {len(walks)} walks"
        if self.told < sum(came.values()) - sum(dropped.values()):
            yield f"{self.told} attempts are told of {sum(came.values())} calls"
        own = [number for asked in walks if (number := self._winner(asked))]
        if len(set(own)) < len(own):
            yield "one call is the answer of two walks"
        for asked in self.asked:
            number = self._winner(asked) if asked.id in self.hits else None
            # Whoever walked may have left when the answer had come.
            if number and number not in own and not any(each.left for each in walks):
                yield f"{asked.id} shares the answer of a call that nobody walked for"

    def _winner(self, asked: Asked) -> int | None:
        if asked.status != 200 or not asked.whole:
            return None
        try:
            winner = winner_of(json.loads(asked.body), self.calls)
        except ValueError:
            return None
        return winner.number if winner else None
