"""A provider's seats: who gets one, how long the others wait, and what they are told of it."""

import asyncio

import pytest

from mana_llm.routing.admission import Admission, Gate, QueuePolicy
from mana_llm.schema.events import Visitor
from tests.turned import TurnedLoop

ME = Visitor("me")


@pytest.fixture
def loop():
    turned = TurnedLoop()
    yield turned
    turned.close()


def full(loop: TurnedLoop, seats: int = 1, waiting_max: int = 8) -> Gate:
    """A gate without a free seat."""
    gate = Gate(seats, waiting_max, loop)
    assert all(gate.enter_now() for _ in range(seats))
    return gate


def test_gate_counts_and_never_refuses_when_there_is_no_limit(loop):
    """A provider without a limit takes everybody, and still knows how many it has."""
    gate = Admission({"cloud": 0}, QueuePolicy(0, 0.0), loop).gates["cloud"]
    assert all(gate.enter_now() for _ in range(1000))
    assert (gate.in_flight, gate.waiting, gate.expected_wait_s()) == (1000, 0, 0.0)
    gate.leave()
    assert gate.in_flight == 999


def test_seat_goes_to_who_waits_when_it_is_given_back(loop):
    """A seat is handed over at once: a newcomer at that moment does not overtake."""
    gate = full(loop)
    waiting = loop.begin(gate.enter(ME, 2.0))
    gate.leave()
    assert not gate.enter_now()
    loop.turn()
    assert waiting.result() is True
    assert (gate.in_flight, gate.waiting) == (1, 0)


def test_waiter_is_told_no_when_its_time_is_over(loop):
    """Nobody waits longer than it said, and then it is out of the queue."""
    gate = full(loop)
    waiting = loop.begin(gate.enter(ME, 2.0))
    loop.turn(1.9)
    assert not waiting.done()
    loop.turn(0.1)
    assert waiting.result() is False
    gate.leave()
    assert (gate.in_flight, gate.waiting) == (0, 0)


@pytest.mark.parametrize("wait_s", [0.0, -1.0])
def test_answer_comes_at_once_when_there_is_no_time_to_wait(loop, wait_s):
    """Without time a free seat is taken, and a full provider is left."""
    gate = Gate(1, 8, loop)
    assert loop.begin(gate.enter(ME, wait_s)).result() is True
    assert loop.begin(gate.enter(ME, wait_s)).result() is False


def test_answer_is_no_at_once_when_the_queue_is_full(loop):
    """The queue is bounded; who finds it full is told so without waiting."""
    gate = full(loop, waiting_max=1)
    waiting = loop.begin(gate.enter(ME, 2.0))
    assert loop.begin(gate.enter(ME, 2.0)).result() is False
    assert loop.begin(gate.enter(Visitor("other"), 2.0)).result() is False
    assert not waiting.done()
    waiting.cancel()
    loop.turn()


def test_answer_is_no_at_once_when_nobody_may_wait(loop):
    """A queue of no places is none."""
    assert loop.begin(full(loop, waiting_max=0).enter(ME, 2.0)).result() is False


def test_batch_work_is_told_no_when_an_interactive_request_needs_its_place(loop):
    """A flood of batch work does not shut out who is interactive."""
    gate = full(loop, waiting_max=2)
    first, second = (loop.begin(gate.enter(Visitor("job", "batch"), 2.0)) for _ in range(2))
    interactive = loop.begin(gate.enter(ME, 2.0))
    assert (first.done(), second.result(), gate.waiting) == (False, False, 2)
    gate.leave()
    loop.turn()
    assert interactive.result() is True
    gate.leave()
    loop.turn()
    assert first.result() is True


def test_seat_is_handed_on_when_its_new_owner_is_cancelled_before_it_sat_down(loop):
    """A seat that was handed over in the same moment as its owner left goes to the next."""
    gate = full(loop)
    first, second = (loop.begin(gate.enter(Visitor(name), 2.0)) for name in "ab")
    gate.leave()
    first.cancel()
    loop.turn()
    assert first.cancelled()
    assert second.result() is True
    gate.leave()
    assert (gate.in_flight, gate.waiting) == (0, 0)


def test_nothing_is_handed_on_when_a_waiter_is_cancelled_as_its_time_ends(loop):
    """Who was told to wait no longer, and is cancelled before it heard, has no seat to give."""
    gate = full(loop)
    waiting = loop.begin(gate.enter(ME, 2.0))
    loop.call_at(2.001, waiting.cancel)
    loop.turn(3.0)
    assert waiting.cancelled()
    assert (gate.in_flight, gate.waiting) == (1, 0)


def test_caller_keeps_its_turn_when_its_first_request_is_cancelled_as_a_seat_comes_free(loop):
    """The seat goes to the same caller's next request, not to another's."""
    gate = full(loop)
    gone, mine = (loop.begin(gate.enter(ME, 2.0)) for _ in range(2))
    other = loop.begin(gate.enter(Visitor("other"), 2.0))
    gone.cancel()
    gate.leave()
    loop.turn()
    assert (mine.done(), other.done()) == (True, False)
    other.cancel()
    loop.turn()


def test_seat_is_not_lost_when_a_waiter_is_thrown_away(loop):
    """A waiter whose coroutine is closed, as at shutdown, leaves nothing behind."""
    gate = full(loop)

    async def thrown() -> None:
        waiter = gate.enter(ME, 2.0)
        waiter.send(None)
        waiter.close()

    loop.begin(thrown())
    assert gate.waiting == 0
    gate.leave()
    assert gate.in_flight == 0


def held(gate: Gate, loop: TurnedLoop, hold_s: float, times: int) -> None:
    """Requests that come in pairs and hold both seats so long."""
    for _ in range(times):
        gate.enter_now()
        gate.enter_now()
        loop.turn(hold_s)
        gate.leave()
        gate.leave()


def test_expected_wait_follows_the_holding_times_when_they_change(loop):
    """A newcomer is told by what the seats were lately held for, and by how many are ahead of it."""
    gate = Gate(2, 8, loop)
    held(gate, loop, 4.0, 3)
    gate.enter_now()
    assert gate.expected_wait_s() == 0.0
    gate.enter_now()
    assert gate.expected_wait_s() == pytest.approx(2.0)
    others = [loop.begin(gate.enter(Visitor("other"), 100.0)) for _ in range(3)]
    assert gate.expected_wait_s() == pytest.approx(8.0)
    # Who comes for the first time has its turn after one of the other's.
    assert gate.expected_wait_s(ME) == pytest.approx(4.0)
    assert gate.expected_wait_s(Visitor("other", "batch")) == pytest.approx(8.0)
    for other in others:
        other.cancel()
    loop.turn()
    gate.leave()
    gate.leave()
    held(gate, loop, 1.0, 40)
    gate.enter_now()
    gate.enter_now()
    assert gate.expected_wait_s() == pytest.approx(0.5, rel=0.05)


def test_expected_wait_grows_when_every_seat_is_held_longer_than_ever(loop):
    """A provider that stopped answering is not believed to be as quick as it was."""
    gate = Gate(2, 8, loop)
    held(gate, loop, 1.0, 3)
    gate.enter_now()
    gate.enter_now()
    loop.turn(30.0)
    assert gate.expected_wait_s() == pytest.approx(15.0)


def test_answer_is_no_at_once_when_the_wait_is_not_worth_it(loop):
    """Who would wait longer than it is worth goes on at once, and one who would not waits."""
    gate = Gate(2, 8, loop)
    held(gate, loop, 4.0, 1)
    gate.enter_now()
    gate.enter_now()
    assert loop.begin(gate.enter(ME, 100.0, worth_s=1.9)).result() is False
    waiting = loop.begin(gate.enter(ME, 100.0, worth_s=2.1))
    assert not waiting.done()
    gate.leave()
    loop.turn()
    assert waiting.result() is True


def test_waiting_is_worth_it_when_only_another_callers_requests_are_many(loop):
    """The wait is judged by a caller's own place: one who floods the queue turns nobody else away."""
    gate = Gate(2, 8, loop)
    held(gate, loop, 4.0, 1)
    gate.enter_now()
    gate.enter_now()
    flood = [loop.begin(gate.enter(Visitor("other"), 100.0)) for _ in range(7)]
    mine = loop.begin(gate.enter(ME, 100.0, worth_s=4.0))
    assert not mine.done()
    for task in (*flood, mine):
        task.cancel()
    loop.turn()


def test_nothing_is_left_when_a_thousand_waiters_are_cancelled_under_way():
    """On a real loop, whoever is cancelled at whatever moment, all seats are free in the end."""

    async def main() -> None:
        clock = TurnedLoop()
        gate = Gate(3, 256, clock)

        async def visit(number: int) -> None:
            if await gate.enter(Visitor(f"caller-{number % 7}"), 5.0):
                try:
                    assert gate.in_flight <= 3
                    await asyncio.sleep(0)
                finally:
                    gate.leave()

        tasks = []
        for number in range(1000):
            tasks.append(asyncio.create_task(visit(number)))
            if number % 3 == 0:
                await asyncio.sleep(0)
            if number % 2 == 0:
                tasks[number // 2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (gate.in_flight, gate.waiting, len(gate._entered)) == (0, 0, 0)
        clock.close()

    asyncio.run(main())
