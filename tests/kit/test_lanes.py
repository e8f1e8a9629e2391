"""The queue: who is next, who must yield, and how many are ahead."""

from hypothesis import given
from hypothesis import strategies as st

from mana_llm.kit.lanes import Lanes
from mana_llm.schema.events import Visitor

VISITORS = st.builds(Visitor, st.sampled_from("abc"), st.sampled_from(("interactive", "batch")))


def queued(*texts: str) -> Lanes[str]:
    """A queue of items such as `a1`, which is caller a's; those in capitals are batch work."""
    lanes: Lanes[str] = Lanes()
    for text in texts:
        lanes.add(visitor(text), text)
    return lanes


def visitor(text: str) -> Visitor:
    return Visitor(text[0].lower(), "batch" if text.isupper() else "interactive")


def served(lanes: Lanes[str]) -> list[str]:
    found = []
    while (item := lanes.first()) is not None:
        lanes.serve()
        found.append(item)
    return found


def test_lanes_serve_in_turns_when_callers_share_one():
    """Callers of a lane take turns, and each caller's own requests keep their order."""
    assert served(queued("a1", "a2", "a3", "b1", "c1", "b2")) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_lanes_serve_batch_last_when_both_wait():
    """Batch work waits until nobody interactive does, whoever came first."""
    assert served(queued("A1", "B1", "a2", "b2")) == ["a2", "b2", "A1", "B1"]


def test_newcomer_gets_the_last_turn_when_a_round_is_under_way():
    """Who joins comes after one request of each who waits, not after all of them."""
    lanes = queued("a1", "a2", "a3", "b1", "b2")
    lanes.serve()
    lanes.add(visitor("c1"), "c1")
    assert served(lanes) == ["b1", "a2", "c1", "b2", "a3"]


def test_caller_keeps_its_turn_when_its_first_request_leaves():
    """A request that leaves unserved costs its caller no turn."""
    lanes = queued("a1", "a2", "b1")
    lanes.drop()
    assert served(lanes) == ["a2", "b1"]
    lanes = queued("a1", "b1", "b2")
    lanes.remove(visitor("b1"), "b1")
    lanes.remove(visitor("b1"), "b1")
    assert lanes.waiting == 2
    assert served(lanes) == ["a1", "b2"]


def test_batch_work_yields_when_an_interactive_request_finds_no_place():
    """The newest of the busiest batch caller goes first."""
    assert queued("A1", "B1", "B2", "c1").yielding_to(visitor("c2")) == (Visitor("b", "batch"), "B2")


def test_busiest_caller_yields_when_another_has_fewer():
    """Within a lane a place goes from the one with the most to somebody who would still have fewer."""
    lanes = queued("a1", "a2", "a3", "b1")
    assert lanes.yielding_to(visitor("b2")) == (Visitor("a"), "a3")
    assert lanes.yielding_to(visitor("c1")) == (Visitor("a"), "a3")


def test_nobody_yields_when_the_newcomer_has_as_many():
    """A place does not go to and fro between equals, nor from interactive to batch."""
    lanes = queued("a1", "a2", "b1")
    assert lanes.yielding_to(visitor("a3")) is None
    assert lanes.yielding_to(visitor("b2")) is None
    assert lanes.yielding_to(visitor("C1")) is None


@given(st.lists(VISITORS, max_size=20), st.integers(0, 20), VISITORS)
def test_ahead_of_counts_who_is_served_before_when_a_visitor_comes(waiting, turns, visitor):
    """What is said of a newcomer's place is what happens then."""
    lanes: Lanes[int] = Lanes()
    for number, one in enumerate(waiting):
        lanes.add(one, number)
    for _ in range(min(turns, len(waiting))):
        lanes.serve()
    ahead = lanes.ahead_of(visitor)
    lanes.add(visitor, -1)
    for _ in range(ahead):
        assert lanes.first() != -1
        lanes.serve()
    assert lanes.first() == -1
