"""A history and its contradictions: pure, so that it can be shown to find each kind of them."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.history.accounts import NO_CONNECTION, UNSEEN, sums
from tests.history.records import Asked, Called, History, Seen
from tests.history.shared import Group, is_hit, winner_of

SKIPPED = ("unconfigured", "cache-unhealthy", "saturated", "capability", "retry-budget", "deadline")
KILL_S = 0.1
"""Seconds that what a kill did to connections may take to be noticed."""


def violations(history: History) -> list[str]:
    """Everything that the records contradict each other in; nothing if all is well."""
    found: list[str] = []
    calls, seen, lines = _by_id(history.called), _by_id(history.seen), defaultdict(list)
    for line in history.lines:
        lines[line.get("request_id", "")].append(line)
    known = {asked.id for asked in history.asked}
    groups: defaultdict[str, list[Asked]] = defaultdict(list)
    for asked in history.asked:
        groups[asked.question].append(asked)
    found += [f"{name}: called upstream, and nobody asked for it" for name in calls if name not in groups]
    found += [f"{name}: in the log, and nobody asked for it" for name in lines if name not in known]
    for asked in history.asked:
        name, group = asked.question, groups[asked.question]
        story = Story(asked, calls[name], seen[name], lines[asked.id], history)
        if len(group) > 1:
            story.shares_with(group, history)
        found += [f"{asked.id}: {problem}" for problem in story.problems()]
    for name, group in groups.items():
        if len(group) > 1:
            together = Group(group, calls[name], seen[name], [line for each in group for line in lines[each.id]])
            found += [f"{name}: {problem}" for problem in together.problems()]
    return found + list(sums(history))


class Story:
    """One request, seen from everywhere."""

    def __init__(
        self,
        asked: Asked,
        calls: list[Called],
        seen: list[Seen],
        lines: list[dict[str, Any]],
        history: History,
    ) -> None:
        self.asked, self.calls, self.seen, self.lines, self.chains = asked, calls, seen, lines, history.chains
        self.shares = False
        self.killed = self._killed_since(asked.began_s, history)

    def shares_with(self, group: list[Asked], history: History) -> None:
        """The calls are those of all who asked the same: which are its own, nobody can tell."""
        self.shares = True
        self.killed = self._killed_since(min(asked.began_s for asked in group), history)

    def _killed_since(self, began_s: float, history: History) -> set[str]:
        return {name for name, at_s in history.killed if began_s - KILL_S <= at_s <= self.asked.ended_s}

    def problems(self) -> Iterator[str]:
        asked = self.asked
        if not self.shares:
            yield from self._tries()
        if asked.left:
            if len(self.lines) > 1:
                yield f"{len(self.lines)} log lines for one request"
            return
        if not asked.whole:
            yield "no whole answer came" if asked.status else "no answer came"
            return
        if asked.headers.get("x-request-id") != asked.id:
            yield f"the answer is that of {asked.headers.get('x-request-id')}"
        yield from self._line()
        winner: Called | None = None
        if asked.status != 200:
            yield from self._failure()
        elif asked.headers.get("content-type", "").startswith("text/event-stream"):
            winner = yield from self._stream()
        else:
            winner = yield from self._plain()
        if winner:
            yield from self._resolved(winner)

    def _tries(self) -> Iterator[str]:
        """One try per entry; again only where a used connection was found dead without a byte."""
        for provider, count in Counter(each.provider for each in self.seen).items():
            dropped = sum(each.dropped for each in self.seen if each.provider == provider)
            if count - dropped > 1 or count > 2:
                yield f"{provider} was asked {count} times"

    def _line(self) -> Iterator[str]:
        """The log has one line, which says what the client was told."""
        asked = self.asked
        if len(self.lines) != 1:
            yield f"{len(self.lines)} log lines for one request"
            return
        line = self.lines[0]
        if line["status"] != asked.status:
            yield f"the log says {line['status']}, the client got {asked.status}"
        told = asked.headers.get("x-mana-llm-attempts")
        attempts = line.get("attempts", 0)
        if told is not None and int(told) != attempts:
            yield f"the header says {told} attempts, the log {attempts}"
        providers = {each.provider for each in self.seen}
        if is_hit(line) and attempts:
            yield f"{attempts} attempts are told of a shared answer"
        if attempts < len(providers) and not self.shares:
            yield f"{attempts} attempts are told, {len(providers)} providers were asked"
        resolved = asked.headers.get("x-mana-llm-resolved")
        if resolved is not None and line.get("resolved") != resolved:
            yield f"the header says {resolved}, the log {line.get('resolved')}"

    def _failure(self) -> Iterator[str]:
        """What is told of the entries that were tried is what came by."""
        try:
            error = json.loads(self.asked.body)["error"]
        except (ValueError, KeyError):
            yield "an error that cannot be read"
            return
        if not self.lines or error.get("code") in ("internal_error", None):
            yield f"an error that nobody is to see: {self.asked.status} {error.get('code')}"
        rows = error.get("attempts")
        if rows is None:
            return
        tried = [row["model"].partition("/")[0] for row in rows if row["reason"] not in SKIPPED]
        providers = {each.provider for each in self.seen}
        if len({row["model"] for row in rows}) != len(rows):
            yield "an entry has two rows"
        for row in rows:
            provider = row["model"].partition("/")[0]
            if row["reason"] in (*SKIPPED, NO_CONNECTION) or (row["reason"] in UNSEEN and provider in self.killed):
                continue
            if provider not in providers:
                yield f"{provider} is said to have been asked ({row['reason']}), and nothing came by"
        # A walk that ran out of time, and the loser of a race, have no row for what was under way.
        extra = set() if self.shares else providers - set(tried)
        if extra and self.asked.status != 504 and "hedged" not in self.asked.model:
            yield f"{extra} were asked, and no row says so"

    def _plain(self) -> Iterator[str]:
        try:
            body = json.loads(self.asked.body)
        except ValueError:
            yield "a whole answer that is no JSON"
            return None
        winner = winner_of(body, self.calls)
        if winner is None:
            yield f"an answer that no call for it gave ({len(self.calls)} calls)"
            return None
        yield from self._named(winner, {body["model"]})
        yield from self._billed(winner, body["usage"])
        return winner

    def _stream(self) -> Iterator[str]:
        events = _events(self.asked.body)
        if events is None:
            yield "a stream with an event that is no JSON"
            return None
        if not events or events[-1] != "[DONE]" or "[DONE]" in events[:-1]:
            yield "a stream without its one end"
            return None
        chunks = [event for event in events[:-1] if "error" not in event]
        errors = len(events) - 1 - len(chunks)
        if errors > 1 or (errors and "error" not in events[-2]):
            yield "an error that is not the last event"
        told = Told(chunks)
        winner = yield from self._said(told, broken=bool(errors))
        if winner and not errors:
            if len(told.usage) != 1:
                yield f"usage came {len(told.usage)} times"
            else:
                yield from self._billed(winner, told.usage[0])
        return winner

    def _said(self, told: "Told", *, broken: bool) -> Iterator[str]:
        """Whose words a stream holds: all of them, or up to where it broke."""
        texts = told.texts
        if broken and not texts:
            return None
        # It may break between its finish and its end mark.
        whole = bool(told.finishes) or not broken
        end = None if whole else len(texts)
        winner = next((call for call in self.calls if call.pieces[:end] == texts), None)
        if winner is None:
            yield f"{len(texts)} chunks that no call for it gave ({len(self.calls)} calls)"
            return None
        if told.finishes != (["stop"] if whole else []):
            yield f"finishes: {told.finishes}"
        if told.models != {winner.label}:
            yield f"answered by {winner.label}, named {told.models}"
        return winner

    def _named(self, winner: Called, models: set[str]) -> Iterator[str]:
        if models != {winner.label}:
            yield f"answered by {winner.label}, named {models}"

    def _billed(self, winner: Called, usage: dict[str, Any]) -> Iterator[str]:
        """Client, log and provider agree on the tokens."""
        told = (usage["prompt_tokens"], usage.get("completion_tokens", 0))
        if told != winner.tokens:
            yield f"the client is told {told} tokens, the provider said {winner.tokens}"
        for line in self.lines:
            logged = (line.get("tokens_in"), line.get("tokens_out") or 0)
            # Shared tokens were spent once.
            if logged != ((None, 0) if is_hit(line) else winner.tokens):
                yield f"the log says {logged} tokens, the provider said {winner.tokens}"

    def _resolved(self, winner: Called) -> Iterator[str]:
        """Whoever answered is named, and stands in the chain that the request began with."""
        headers = self.asked.headers
        told = headers.get("x-mana-llm-resolved")
        # A stream that was begun before anybody answered cannot say it there.
        early = told is None and "x-mana-llm-attempts" not in headers
        if told != winner.label and not early:
            yield f"answered by {winner.label}, resolved says {told}"
        if self.lines and self.lines[0].get("resolved") != winner.label:
            yield f"answered by {winner.label}, the log says {self.lines[0].get('resolved')}"
        chain = self.chains.get(headers.get("x-mana-llm-config", ""), {}).get(self.asked.model, [self.asked.model])
        if winner.label not in chain:
            yield f"answered by {winner.label}, which is not in its chain {chain}"


class Told:
    """What the chunks of a stream say; signs of life, which name the model as it was asked for, say nothing."""

    def __init__(self, chunks: list[dict[str, Any]]) -> None:
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
        self.texts = [text for choice in choices if (text := choice["delta"].get("content"))]
        self.finishes = [reason for choice in choices if (reason := choice["finish_reason"])]
        self.usage = [chunk["usage"] for chunk in chunks if not chunk["choices"] and chunk.get("usage")]
        self.models = {chunk["model"] for chunk in chunks if _speaks(chunk)}


def _speaks(chunk: dict[str, Any]) -> bool:
    choices = chunk["choices"]
    return not choices or bool(choices[0]["delta"].get("content")) or bool(choices[0]["finish_reason"])


def _by_id(records: list[Any]) -> defaultdict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for record in records:
        found[record.id].append(record)
    return found


def _events(body: bytes) -> list[Any] | None:
    texts = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    try:
        return ["[DONE]" if text == b"[DONE]" else json.loads(text) for text in texts]
    except ValueError:
        return None
