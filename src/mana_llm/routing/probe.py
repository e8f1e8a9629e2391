"""Finds out by itself who is there: asks every configured provider, now and then, for something that costs nothing.

A probe is the list of models, so it says whether a provider can be reached and no more. What it may end and what
not is `kit.breaker`'s.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from mana_llm.ports import Provider, ProviderEntry, Transport, UpstreamResponse
from mana_llm.routing.health import ProviderHealthCache
from mana_llm.schema.errors import ProviderError, ProviderProtocolError, ProviderTimeoutError
from mana_llm.schema.wire import Limits

_log: Final = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = 65_536
"""How much of an answer is read. Most lists are whole by then, so that they are judged whole and their connections are
used again; of one that goes on (some have half a megabyte) nobody wants the rest twice a minute: it is judged by its
beginning, and its connection is cut."""

_JSON: Final = (b"{", b"[")

GRACE_S: Final = 1.0
"""Seconds beyond the probe's limit, which the transport keeps, until a transport that did not is given up; also how
long the end of the probing is waited for."""


class ProbePolicy(msgspec.Struct, frozen=True):
    """When: every `interval_s` times what `jitter` draws (0.0: never), for at most `timeout_s` each."""

    interval_s: float
    timeout_s: float
    jitter: Callable[[], float]


class HealthProbe:
    """Probes every configured provider until it is closed, each in a task of its own: one that hangs or fails holds
    up no other, and whatever a probe raises, the next one comes.
    """

    def __init__(
        self, transport: Transport, entries: Iterable[ProviderEntry], health: ProviderHealthCache, policy: ProbePolicy
    ) -> None:
        self._transport = transport
        self._providers = [(entry.name, entry.provider) for entry in entries if entry.provider]
        self._health = health
        self._policy = policy
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; the first probes come after the first interval. Needs a running event loop."""
        if self._policy.interval_s and not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._go_on(name, provider)) for name, provider in self._providers]

    async def close(self) -> None:
        """Stop, probes under way included: no verdict comes of those."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_S)

    async def probe(self, name: str, provider: Provider) -> None:
        """Ask one provider once, and let its health know.

        An error that says nothing about the provider's health (our key is refused, there is no list) is no verdict.
        """
        seen = self._health.moment(name)
        error = await self._ask(provider)
        if error is None:
            self._health.probe_succeeded(name, seen)
        elif error.health != "none":
            error.provider = name
            self._health.probe_failed(name, error, seen)

    async def _go_on(self, name: str, provider: Provider) -> None:
        # A cancellation that got lost in a probe ends it all the same.
        while self._tasks:
            await asyncio.sleep(self._policy.interval_s * self._policy.jitter())
            try:
                await self.probe(name, provider)
            except Exception:  # noqa: BLE001 - a bug in one probe must not end the next
                _log.exception("a probe of %s failed in the gateway itself", name)

    async def _ask(self, provider: Provider) -> ProviderError | None:
        """What is wrong; None if the answer is a list, as far as it was read."""
        timeout_s = self._policy.timeout_s
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                limits = Limits(timeout_s, None, timeout_s, timeout_s)
                response = await self._transport.send(provider.encode_models(), limits)
                try:
                    return await _judged(provider, response)
                finally:
                    response.close()
        except TimeoutError:
            return ProviderTimeoutError(f"The probe did not end within {timeout_s + GRACE_S:g} s.")
        except ProviderError as error:
            return error


async def _judged(provider: Provider, response: UpstreamResponse) -> ProviderError | None:
    """Judge as an attempt does: of a 200, its media type and what it holds.

    Raises:
        ProviderTimeoutError: if nothing came in time.
        ProviderProtocolError: if the list breaks off, or is none.
    """
    if response.status == 200 and _media_type(response) == provider.plain_type:
        await _check_list(provider, response)
        return None
    # The status says the most: a body that breaks off is judged by what came of it.
    body = b""
    with contextlib.suppress(ProviderError):
        while len(body) < BODY_BYTES_MAX and (data := await response.read()):
            body += data
    return provider.decode_error(response.status, response.headers, body[:BODY_BYTES_MAX])


async def _check_list(provider: Provider, response: UpstreamResponse) -> None:
    body = data = await response.read()
    try:
        while data and len(body) < BODY_BYTES_MAX:
            data = await response.read()
            body += data
    except ProviderTimeoutError:
        # Who begins well and is slow at the rest is there.
        pass
    if not data:
        provider.decode_models(body)
    elif not body.lstrip().startswith(_JSON):
        raise ProviderProtocolError("what came instead of the models is no JSON")


def _media_type(response: UpstreamResponse) -> bytes:
    given = next((value for name, value in response.headers if name == b"content-type"), b"")
    return given.partition(b";")[0].strip().lower()
