"""What the walk would do with a chain now, entry by entry, without asking any model."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from mana_llm.ports import Provider, ProviderEntry
from mana_llm.routing.attempt import Request
from mana_llm.routing.needs import needs_of
from mana_llm.routing.preparation import TIMER_SLACK_S, Preparation
from mana_llm.routing.router import Guards
from mana_llm.routing.rules import is_usable, visitor_of, word_to_go_on
from mana_llm.routing.walk import WalkLimits
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import ProviderError, ProviderTimeoutError, RequestError
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Policy, Route, Target
from mana_llm.schema.wire import Limits

Decision = Literal["kept", "waits", "skipped", "ends", "unreached"]
DIGITS: Final = 3
"""Of seconds that are shown."""


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. `kept` would be asked at once; a request `waits` for a place there; `skipped` would be passed by;
    `ends` would end the walk with an error; `unreached` comes after such an end.

    `reason` is the word that attempts would have, or the error's that ends the walk; None for the rest. Where every
    place is taken, `expected_wait_s` is when one will come free, and `wait_s_max` how long the request waits at most:
    then the walk goes on.
    """

    model: str
    provider: str
    decision: Decision
    reason: str | None = None
    detail: str | None = None
    expected_wait_s: float | None = None
    wait_s_max: float | None = None

    @property
    def would_be_asked(self) -> bool:
        """Whether the walk, once it is here, asks the entry."""
        return self.decision == "kept" or (self.decision == "waits" and not self.waits_in_vain)

    @property
    def waits_in_vain(self) -> bool:
        """Whether a place is expected only after the walk has gone on."""
        return self.decision == "waits" and (self.expected_wait_s or 0.0) > (self.wait_s_max or 0.0)


class Explanation(msgspec.Struct, frozen=True):
    """The whole chain, and the entry that would be asked first; None if none would."""

    chain: list[Explained]
    answers: Explained | None


class _Walk(msgspec.Struct):
    """The way so far. `rest` are the entries after the one that is looked at, `left_s` is left of the walk's time,
    `end` is why nothing further is reached, None where all is.
    """

    route: Route
    request: Request
    exchange: Exchange
    left_s: float
    rest: tuple[Target, ...] = ()
    end: tuple[str | None, str] | None = None


class Explainer:
    """Looks with the walk's own eyes, and takes neither permit nor place."""

    def __init__(
        self, entries: Mapping[str, ProviderEntry], guards: Guards, preparation: Preparation, limits: WalkLimits
    ) -> None:
        self._entries = entries
        self._guards = guards
        self._preparation = preparation
        self._limits = limits

    async def explain(self, route: Route, request: Request, exchange: Exchange) -> Explanation:
        """What would become of a request like `request`, if whoever asks in `exchange` sent it now."""
        walk = _Walk(route, request, exchange, route.policy.total_s or self._limits.total_s)
        rows = []
        for number, target in enumerate(route.chain, start=1):
            walk.rest = route.chain[number:]
            row = _told(target, "unreached", *walk.end) if walk.end else await self._entry(walk, target)
            rows.append(row)
            if row.decision == "ends":
                walk.end = (None, f"the request ends at {target.label}")
            elif row.waits_in_vain:
                walk.left_s -= row.wait_s_max or 0.0
                if walk.left_s < TIMER_SLACK_S:
                    walk.end = _late(target)
        return Explanation(rows, _first(rows, route.policy))

    async def _entry(self, walk: _Walk, target: Target) -> Explained:
        row = self._state(walk, target)
        if row.decision == "skipped" or row.waits_in_vain:
            return row
        provider = self._entries[target.provider].provider
        if provider is None:
            raise TypeError("an entry that is not configured is skipped")
        try:
            await self._try(walk, provider, target)
        except ProviderError as error:
            if isinstance(error, ProviderTimeoutError):
                # It is not the provider's: a question that is not answered in its own time is no error.
                walk.end = _late(target)
            word = word_to_go_on(walk.route.policy, error)
            decision: Decision = "skipped" if word else "ends"
            return replace(row, decision=decision, reason=word or error.reason, detail=error.detail)
        except RequestError as error:
            return replace(row, decision="ends", reason=error.reason, detail=error.message)
        return row

    def _state(self, walk: _Walk, target: Target) -> Explained:
        """What a request meets before anything is made of it: in the walk's own order."""
        entry, health = self._entries[target.provider], self._guards.health
        if entry.provider is None:
            return _told(target, "skipped", "unconfigured", entry.hint)
        if walk.route.policy.on_incapable == "skip":
            lack = self._guards.catalogue.lack(target, needs_of(walk.request))
            if lack:
                return _told(target, "skipped", "capability", f"it is not known to do {lack}")
        state = health.told(entry.name)
        if not health.is_healthy(entry.name):
            if state.state == "probing":
                return _told(target, "skipped", "cache-unhealthy", f"on trial after {state.last_error}, by one request")
            rest = health.rest(entry.name)
            detail = f"resting after {rest.reason}, for {rest.retry_after_s or 0.0:.0f} s more"
            return _told(target, "skipped", "cache-unhealthy", detail)
        trial = f"on trial after {state.last_error}: the next request alone" if state.state == "probing" else None
        if self._guards.admission.gates[entry.name].is_full:
            return self._wait(walk, target)
        return _told(target, "kept", None, trial)

    def _wait(self, walk: _Walk, target: Target) -> Explained:
        """What a full entry means: a wait, or nothing to wait for."""
        gate, visitor = self._guards.admission.gates[target.provider], visitor_of(walk.exchange)
        first_s = walk.route.policy.ttft_s or self._limits.first_s
        wait_s = min(walk.left_s, walk.left_s if first_s is None else first_s)
        if any(self._is_usable(later) for later in walk.rest):
            wait_s = min(wait_s, self._guards.admission.policy.wait_s)
        row = Explained(
            model=target.label,
            provider=target.provider,
            decision="waits",
            detail=f"all {gate.max_concurrent} places are taken, and {gate.waiting} requests wait; one comes free",
            expected_wait_s=round(gate.expected_wait_s(visitor), DIGITS),
            wait_s_max=round(wait_s, DIGITS),
        )
        when = f"{row.detail} in about {row.expected_wait_s:.1f} s"
        if gate.may_wait(visitor, wait_s, first_s):
            return replace(row, detail=f"{when}, and is waited for {wait_s:.1f} s at most")
        return replace(
            row, decision="skipped", reason="saturated", detail=f"{when}, and is not waited for", wait_s_max=None
        )

    def _is_usable(self, target: Target) -> bool:
        gate = self._guards.admission.gates[target.provider]
        return is_usable(self._entries[target.provider], self._guards.health, gate)

    async def _try(self, walk: _Walk, provider: Provider, target: Target) -> None:
        """Everything that happens before a call is sent. Raises the error that it comes to, as an attempt would."""
        request = walk.request
        if not isinstance(request, ChatRequest):
            provider.encode_embeddings(request, target.model)
            return
        limits = Limits(self._limits.connect_s, self._limits.first_s, self._limits.idle_s, walk.left_s)
        walk.left_s = (await self._preparation.prepare(provider, request, target, limits)).total_s
        provider.encode_chat(request, target.model)


def _told(target: Target, decision: Decision, reason: str | None, detail: str | None) -> Explained:
    return Explained(model=target.label, provider=target.provider, decision=decision, reason=reason, detail=detail)


def _late(target: Target) -> tuple[str, str]:
    return "deadline", f"the request's time ends at {target.label}"


def _first(rows: list[Explained], policy: Policy) -> Explained | None:
    """Who would be asked first: whoever is next in the chain, or a hedge that begins before there is a place."""
    asked = [row for row in rows if row.would_be_asked]
    if asked and policy.hedge_after_s is not None and (asked[0].expected_wait_s or 0.0) > policy.hedge_after_s:
        return next((row for row in asked if row.decision == "kept"), asked[0])
    return asked[0] if asked else None
