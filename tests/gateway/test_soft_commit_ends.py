"""Who leaves, does not read, is impatient or is stopped while a stream lives on keep-alives alone."""

import asyncio

import pytest
import uvloop

from tests import jumping
from tests.caller import Answer, Exchange, begin, begin_chat, body_for
from tests.gateway.staged import MODELS, stage, streamed, until
from tests.puppet import STREAM_HEAD

SOON_S = 0.05
NEVER_S = 60.0
ALIAS = "mana/three"
CHAT = "POST /v1/chat/completions"
LIMIT = "x-stainless-read-timeout"


@pytest.mark.parametrize("leave", [Exchange.close, Exchange.reset])
def test_upstream_is_let_go_when_the_client_leaves_during_keep_alives(leave, tmp_path):
    """A client that leaves a softly committed stream ends the work upstream; no other entry is begun, no place kept,
    and the request is a 499.
    """

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await begin_chat(on.port, ALIAS, stream=True)
            await exchange.until_events(2)
            leave(exchange)
            await asyncio.wait_for(on.actors[0].left.wait(), 5)
            await until(on.quiet)
            assert [actor.asked_count for actor in on.actors] == [1, 0, 0]
            assert on.count("mana_llm_requests_total", status="499") == 1
            assert on.count("mana_llm_llm_requests_total", status="cancelled") == 1
            assert not on.running.application.health.problems()

    jumping.run(main())


def test_stream_is_cut_when_its_client_does_not_read_keep_alives(tmp_path):
    """A client that stops reading is cut after the write limit, though nothing but keep-alives is sent to it; what
    works for it upstream is let go.
    """

    async def main() -> None:
        # Beats so small that the kernel's buffers fill within a test: the smallest ones, and beats at every turn.
        async with stage(tmp_path, soft_commit_s=0.0001, stall_s=0.3) as on:
            body = body_for(ALIAS, stream=True)
            exchange = await begin(on.port, CHAT, body)
            await exchange.until_events(1)
            exchange.stop_reading()
            (connection,) = on.running.server.server_state.connections
            connection.transport.set_write_buffer_limits(high=1024, low=512)
            await asyncio.wait_for(on.actors[0].left.wait(), 9)
            await until(on.quiet)
            assert on.count("mana_llm_requests_total", status="499") == 1
            exchange.reset()

    uvloop.run(main())


def test_answer_is_whole_when_its_client_reads_again(tmp_path):
    """Content that comes while the client does not read its keep-alives waits for it, whole and in order."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await begin_chat(on.port, ALIAS, stream=True)
            await exchange.until_events(2)
            (connection,) = on.running.server.server_state.connections
            connection.flow.pause_writing()
            on.actors[0].say(streamed("Hello", " you"))
            await until(lambda: on.count("mana_llm_llm_requests_total", status="ok") == 1)
            connection.flow.resume_writing()
            answer = await exchange.whole()
            assert (answer.text, answer.events[-1]) == ("Hello you", "[DONE]")

    jumping.run(main())


def test_head_is_sent_when_a_keep_alive_could_not_leave_before_content_came(tmp_path):
    """Where an earlier answer on the connection is still unread, no keep-alive leaves; the stream then begins as any
    other, with the header that names who answered.
    """

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await begin_chat(on.port, ALIAS, stream=True)
            await asyncio.wait_for(on.actors[0].asked.wait(), 5)
            (connection,) = on.running.server.server_state.connections
            connection.flow.pause_writing()
            await asyncio.sleep(SOON_S * 3)
            on.actors[0].say(streamed("Hello"))
            await until(lambda: on.count("mana_llm_llm_requests_total", status="ok") == 1)
            connection.flow.resume_writing()
            answer = await exchange.whole()
            assert (answer.status, answer.headers["x-mana-llm-resolved"]) == (200, MODELS[0])
            assert (answer.text, answer.events[-1]) == ("Hello", "[DONE]")
            assert {event["model"] for event in answer.events[:-1] if event.get("choices")} == {MODELS[0]}

    jumping.run(main())


def test_client_is_told_when_the_gateway_stops_during_keep_alives(tmp_path):
    """At the end of the drain a softly committed stream gets one error event and [DONE], and its upstream is let
    go.
    """

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=SOON_S) as on:
            exchange = await begin_chat(on.port, ALIAS, stream=True)
            await exchange.until_events(2)
            on.running.server.should_exit = True
            answer = await asyncio.wait_for(exchange.whole(), 5)
            *_, error, end = answer.events
            assert (error["error"]["code"], end, answer.complete) == ("server_shutting_down", "[DONE]", True)
            await asyncio.wait_for(on.actors[0].left.wait(), 5)

    jumping.run(main())


async def first_event(port: int, **headers: str) -> Answer:
    """The answer to a streamed request, read until its first event."""
    exchange = await begin(
        port, CHAT, body_for(ALIAS, stream=True), {name.replace("_", "-"): headers[name] for name in headers}
    )
    await asyncio.wait_for(exchange.until_events(1), 5)
    exchange.close()
    return exchange.answer


@pytest.mark.parametrize("limit", ["0.4", "1", "0.001"])
def test_keep_alives_come_sooner_when_the_client_is_less_patient(limit, tmp_path):
    """A client's own limit on silence pulls the soft commit before it, long before the gateway's own moment."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=NEVER_S) as on:
            answer = await first_event(on.port, x_stainless_read_timeout=limit)
            assert answer.status == 200
            assert answer.events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}

    jumping.run(main())


def test_keep_alives_are_bounded_when_the_client_asks_for_a_flood(tmp_path):
    """However small a client says its patience is, keep-alives stay at least a tenth of a second apart."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=NEVER_S) as on:
            exchange = await begin(on.port, CHAT, body_for(ALIAS, stream=True), {LIMIT: "0.00001"})
            loop = asyncio.get_running_loop()
            await exchange.until_events(1)
            began_at = loop.time()
            await exchange.until_events(4)
            assert loop.time() - began_at > 0.2
            exchange.close()

    jumping.run(main())


@pytest.mark.parametrize("headers", [{}, {LIMIT: "1"}])
def test_no_head_leaves_before_content_when_soft_commit_is_off(headers, tmp_path):
    """0 is never, for impatient clients too: the status waits for the content, as long as the client does."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=0.0) as on:
            exchange = await begin(on.port, CHAT, body_for(ALIAS, stream=True), headers)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(exchange.more(), 0.7)
            on.actors[0].say(streamed("a"))
            answer = await exchange.whole()
            assert (answer.headers["x-mana-llm-resolved"], answer.text) == (MODELS[0], "a")

    jumping.run(main())


def test_stream_is_not_begun_softly_when_content_comes_in_time(tmp_path):
    """A stream whose content comes before the moment has no keep-alive and its full head."""

    async def main() -> None:
        async with stage(tmp_path, soft_commit_s=5.0) as on:
            on.actors[0].say(STREAM_HEAD, streamed("a").removeprefix(STREAM_HEAD))
            exchange = await begin_chat(on.port, ALIAS, stream=True)
            answer = await exchange.whole()
            assert answer.headers["x-mana-llm-resolved"] == MODELS[0]
            assert [event["model"] for event in answer.events[:-1]] == [MODELS[0]] * 2

    jumping.run(main())
