"""The scorecard of sixteen faults, scaled down: our own gateway passes, and gateways with real mistakes do not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.faults import ours
from benchmarks.faults.asking import Door
from benchmarks.faults.card import Card, NotReadyError, Result
from benchmarks.faults.judge import Terms
from benchmarks.faults.rows import FAULTS, Row, rows
from benchmarks.faults.upstreams import Upstreams
from tests.caller import Exchange, begin
from tests.puppet import puppet, request_of

SHORT_S = 0.3
# Generous where a busy machine could be late: only the limits on silence are short.
OURS = Terms(first_token_s=SHORT_S, idle_s=SHORT_S, failover_s=5.0, slack_s=5.0, settle_s=20.0, added_ms=100.0)
FAKES = Terms(first_token_s=SHORT_S, idle_s=SHORT_S, failover_s=0.5, slack_s=0.5, settle_s=10.0)
SAMPLES = 20

Broken = Callable[[asyncio.StreamWriter, "Fake", bytes], Awaitable[None]]


async def own_results(chosen: list[Row], folder) -> list[Result]:
    """Our own gateway's outcome, as a process of its own."""
    async with Upstreams() as upstreams, ours.served(upstreams, folder, OURS, backoff_s=0.2) as door:
        return await Card(door, upstreams, OURS, SAMPLES).run(chosen)


def wrong(results: list[Result]) -> list[str]:
    return [f"{each.row.fault}, {each.row.moment}: {each.reason}" for each in results if each.verdict != "pass"]


def test_card_is_passed_when_the_gateway_is_ours(tmp_path):
    """Every fault at every moment ends as DESIGN 4.2 has it."""
    assert wrong(asyncio.run(own_results(rows(), tmp_path))) == []


def test_card_has_sixteen_faults_when_counted():
    """Sixteen faults, each with a row, and none twice at the same moment."""
    card = rows()
    assert len(FAULTS) == 16
    assert list(dict.fromkeys(row.fault for row in card)) == list(FAULTS)
    assert len({(row.fault, row.moment) for row in card}) == len(card)


class Fake:
    """A gateway that relays the first upstream, and does something wrong where that breaks.

    It waits `first_s` for the first piece (None: for ever), and then asks the second.
    """

    def __init__(self, upstreams: Upstreams, broken: Broken, first_s: float | None = SHORT_S) -> None:
        self.upstreams = upstreams
        self.broken = broken
        self.first_s = first_s

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await request_of(reader)
        try:
            first = await begin(self.upstreams.first.port, "POST /v1/chat/completions", body)
            async with asyncio.timeout(self.first_s):
                assert await first.more()
        except (TimeoutError, AssertionError, OSError):
            first = await self.second(body)
            await first.more()
        try:
            await self.relay(first, writer, head=True)
        finally:
            first.close()
        if b"[DONE]" not in first.answer.body and b'"stream"' in body:
            await self.broken(writer, self, body)

    async def second(self, body: bytes) -> Exchange:
        return await begin(self.upstreams.second.port, "POST /v1/chat/completions", body)

    async def relay(self, exchange: Exchange, writer: asyncio.StreamWriter, *, head: bool) -> None:
        if head:
            kind = exchange.answer.headers.get("content-type", "text/plain")
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode())
        sent = 0
        more = True
        while more:
            writer.write(exchange.answer.body[sent:])
            sent = len(exchange.answer.body)
            more = not exchange.answer.complete and await exchange.more()


@asynccontextmanager
async def before_fake(broken: Broken, first_s: float | None, terms: Terms) -> AsyncIterator[Card]:
    """A card for such a gateway."""
    async with Upstreams() as upstreams, puppet(Fake(upstreams, broken, first_s).play) as url:
        yield Card(Door.at(url, "", "card"), upstreams, terms, SAMPLES)


async def says_nothing(_writer: asyncio.StreamWriter, _fake: Fake, _body: bytes) -> None:
    """End the answer as if it were whole."""


async def splices(writer: asyncio.StreamWriter, fake: Fake, body: bytes) -> None:
    """Let the second go on where the first fell silent."""
    exchange = await fake.second(body)
    await exchange.more()
    await fake.relay(exchange, writer, head=False)
    exchange.close()


async def hangs(writer: asyncio.StreamWriter, _fake: Fake, _body: bytes) -> None:
    await asyncio.Event().wait()


async def invents(writer: asyncio.StreamWriter, _fake: Fake, _body: bytes) -> None:
    """Pretend that the answer had come to its end."""
    writer.write(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    writer.write(b'data: {"error":{"type":"broken"}}\n\ndata: [DONE]\n\n')


async def is_honest(writer: asyncio.StreamWriter, _fake: Fake, _body: bytes) -> None:
    writer.write(b'data: {"error":{"type":"broken"}}\n\ndata: [DONE]\n\n')


def row_of(fault: str, moment: str) -> Row:
    return next(row for row in rows() if (row.fault, row.moment) == (fault, moment))


async def result_of(row: Row, broken: Broken, first_s: float | None = SHORT_S, terms: Terms = FAKES) -> Result:
    async with before_fake(broken, first_s, terms) as card:
        (result,) = await card.run([row])
        return result


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (says_nothing, "silent about the break"),
        (splices, "spliced"),
        (hangs, "hung"),
        (invents, "an invented finish"),
    ],
)
def test_card_fails_a_gateway_when_it_breaks_a_stream_wrongly(broken, reason):
    """Splicing, hanging, silence and inventing after content are each a fail, for their own reason."""
    result = asyncio.run(result_of(row_of("stream cut", "stream, after content"), broken))
    assert (result.verdict, result.reason.startswith(reason)) == ("fail", True), result.reason


def test_card_passes_a_gateway_when_it_tells_of_a_break():
    """One error event and [DONE] after content are a pass, whoever says it."""
    result = asyncio.run(result_of(row_of("stream cut", "stream, after content"), is_honest, terms=OURS))
    assert (result.verdict, result.reason) == ("pass", "")


@pytest.mark.parametrize(
    ("fault", "moment", "reason"),
    [
        ("silent upstream", "plain", "hung"),
        ("role only, then hang", "stream", "hung"),
        ("malformed chunk", "stream", "passed on what is no JSON"),
        ("wrong content type", "plain", "passed on what is no JSON"),
        ("persistent 429", "plain", "an error (rate_limit_exceeded) where an answer was due"),
        ("in-band error", "stream", "an error"),
        ("content filter", "plain", "status 200 and no words: a content filter is a 422"),
    ],
)
def test_card_fails_a_gateway_when_it_only_relays(fault, moment, reason):
    """Whoever passes on what comes, and waits for it without a limit, fails."""
    result = asyncio.run(result_of(row_of(fault, moment), says_nothing, first_s=None))
    assert (result.verdict, result.reason[: len(reason)]) == ("fail", reason), result.reason


@pytest.mark.parametrize(("first_s", "reason"), [(SHORT_S, "never left alone"), (0.05, "adds ")])
def test_card_fails_a_gateway_when_it_never_learns_of_an_outage(first_s, reason):
    """Waiting for a dead upstream on every request is a fail, however short the wait: medians are compared."""
    result = asyncio.run(result_of(row_of("sustained outage", "plain"), says_nothing, first_s))
    assert (result.verdict, result.reason.startswith(reason)) == ("fail", True), result.reason


def test_card_does_not_begin_when_the_first_upstream_is_never_asked():
    """A gateway that asks somebody else is not judged at all."""

    async def main() -> None:
        impatient = Terms(settle_s=0.2)
        async with Upstreams() as upstreams:
            door = Door.at(upstreams.second.openai_url, "", "card")
            with pytest.raises(NotReadyError):
                await Card(door, upstreams, impatient, SAMPLES).run(rows())

    asyncio.run(main())


def test_row_is_void_when_the_gateway_stays_with_the_second():
    """A fault that never reached the gateway is neither passed nor failed."""

    class Fickle(Fake):
        """Asks the first only as long as the card looks whether it does."""

        looks = 3

        async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.looks -= 1
            _, body = await request_of(reader)
            port = (self.upstreams.first if self.looks >= 0 else self.upstreams.second).port
            exchange = await begin(port, "POST /v1/chat/completions", body)
            await exchange.more()
            await self.relay(exchange, writer, head=True)
            exchange.close()

    async def main() -> None:
        async with Upstreams() as upstreams, puppet(Fickle(upstreams, says_nothing).play) as url:
            card = Card(Door.at(url, "", "card"), upstreams, OURS, SAMPLES)
            (result,) = await card.run([row_of("empty answer", "plain")])
            assert (result.verdict, result.reason) == ("void", "the first upstream was not asked")

    asyncio.run(main())
