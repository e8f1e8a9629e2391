"""What waits to be written, and when it leaves."""

from hypothesis import given
from hypothesis import strategies as st

from mana_llm.kit.outbox import Outbox


class Loop:
    """A loop whose turns a test makes."""

    def __init__(self):
        self._planned = []

    def soon(self, callback):
        """Remember `callback` for the next turn."""
        self._planned.append(callback)

    def turn(self):
        """Make one turn."""
        planned, self._planned = self._planned, []
        for callback in planned:
            callback()


class Connection:
    """Writes into a list that several share."""

    def __init__(self, outbox, written):
        self._outbox = outbox
        self._written = written
        self._unsent = []

    def say(self, word):
        """Write `word` soon."""
        self._unsent.append(word)
        self._outbox.add(self)

    def flush(self):
        """As `Sender.flush`."""
        self._written += self._unsent
        self._unsent = []


def world():
    """A loop, its outbox, and where everything is written."""
    loop = Loop()
    return loop, Outbox(loop.soon), []


def test_word_leaves_at_once_when_nobody_else_is_awake():
    """Whoever is alone waits for nothing, not even for the end of the turn."""
    _, outbox, written = world()
    outbox.expect()
    Connection(outbox, written).say("a")
    assert written == ["a"]
    Connection(outbox, written).say("unexpected")
    assert written == ["a", "unexpected"]


def test_words_leave_together_when_several_are_awake():
    """Nothing leaves until the last who was woken up has written; then everything does."""
    loop, outbox, written = world()
    for _ in range(3):
        outbox.expect()
    Connection(outbox, written).say("a")
    Connection(outbox, written).say("b")
    assert written == []
    Connection(outbox, written).say("c")
    assert sorted(written) == ["a", "b", "c"]
    loop.turn()
    assert len(written) == 3


def test_words_leave_with_the_turn_when_somebody_expected_says_nothing():
    """A wake-up that ends in no write holds up nobody for longer than a turn, and is forgotten then."""
    loop, outbox, written = world()
    outbox.expect()
    outbox.expect()
    Connection(outbox, written).say("a")
    assert written == []
    loop.turn()
    assert written == ["a"]
    outbox.expect()
    Connection(outbox, written).say("b")
    assert written == ["a", "b"]


@given(st.lists(st.sampled_from(["expect", "turn", 0, 1, 2])))
def test_every_word_leaves_once_and_in_order_when_anything_happens(steps):
    """However wakes, words and turns follow each other: one turn later all is written, once, each one's in order."""
    loop, outbox, written = world()
    connections = [Connection(outbox, written) for _ in range(3)]
    said = []
    for number, step in enumerate(steps):
        if step == "expect":
            outbox.expect()
        elif step == "turn":
            loop.turn()
            assert sorted(written) == sorted(said)
        else:
            said.append((step, number))
            connections[step].say((step, number))
    loop.turn()
    assert sorted(written) == sorted(said)
    for connection in range(3):
        assert [word for word in written if word[0] == connection] == [word for word in said if word[0] == connection]
