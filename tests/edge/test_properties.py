"""What holds for every input: cuts, deadlines, names."""

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.edge.headers import IGNORED_BYTES_MAX, ignored_header
from mana_llm.edge.watch import Watch
from mana_llm.kit.ids import sane_id
from mana_llm.schema.targets import header_text
from tests.edge.wire import CHAT, chat, chat_body, client, edge, request, run, until

CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\nA: b\r\n\r\n"
)
WORDS = [b"GET ", b"POST ", b"/ ", b"HTTP/1.1", b"\r\n", b"Host: x", b"Content-Length: 3", b":", b"\0"]
PHRASES = [b"Transfer-Encoding: chunked", b"Upgrade: h2c", b"Connection: upgrade", chat(), CHAT.encode(), chat_body()]
STREAM = [
    request("POST", "/a", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    CHUNKED,
    request("GET", "/b?c=d", None, "A: \xe4"),
    request("POST", "/e", b"{}", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x"),
    b"\r\n" + request("POST", "/f", b""),
    CHUNKED.replace(b"chunked\r\n", b"chunked\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"),
    request("GET", "/g"),
    b"GARBAGE\r\n\r\n",
]


async def answers(port: int, pieces: list[bytes], count: int) -> list[tuple[int, bytes]]:
    async with client(port) as one:
        for piece in pieces:
            one.send(piece)
            await one.writer.drain()
            await asyncio.sleep(0)
        found = [await one.answer() for _ in range(count)]
        assert await one.ended() == b""
        return [(each.status, each.body) for each in found]


def test_answers_are_the_same_when_requests_are_cut_anywhere():
    """Eight requests of every kind get the same answers in the same order, however the bytes are cut."""
    data = b"".join(STREAM)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.integers(0, len(data)), max_size=30))
    def property_(cuts):
        ends = [0, *sorted(cuts), len(data)]
        pieces = [data[start:end] for start, end in itertools.pairwise(ends) if start < end]

        async def play():
            async with edge() as running:
                found = await answers(running.port, pieces, len(STREAM))
                return found, [(each.method, each.path, each.body) for each in running.seen]

        assert run(play()) == whole

    async def at_once():
        async with edge() as running:
            found = await answers(running.port, [data], len(STREAM))
            return found, [(each.method, each.path, each.body) for each in running.seen]

    whole = run(at_once())
    assert [status for status, _ in whole[0]] == [200] * 7 + [400]
    assert whole[1][1] == ("POST", "/c", b"helloyou")
    property_()


def test_anything_gets_an_answer_or_an_end_when_it_is_sent():
    """Whatever bytes come, alone or around a request, the connection answers or ends, and never breaks."""
    soup = st.lists(
        st.one_of(st.binary(max_size=20), st.sampled_from(WORDS), st.sampled_from(PHRASES)),
        max_size=12,
    ).map(b"".join)

    @settings(max_examples=150, deadline=None)
    @given(soup)
    def property_(data):
        async def play():
            async with edge(header_s=0.05, body_s=0.05, keep_alive_s=0.05) as running:
                async with client(running.port) as one:
                    one.send(data)
                    one.send(b"\r\n")
                    came = await one.ended(5)
                assert came == b"" or came.startswith(b"HTTP/1.1 ")
                state = running.server.server_state
                await until(lambda: not state.connections and not state.tasks)

        run(play())

    property_()


class FakeLoop:
    """A loop that has nothing but timers, and time that the test turns."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, object, list[bool]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, at_s, work):
        alive = [True]
        self.timers.append((at_s, work, alive))

        class Handle:
            def cancel(self) -> None:
                alive[0] = False

        return Handle()

    def turn(self, to_s: float) -> None:
        while due := [timer for timer in self.timers if timer[2][0] and timer[0] <= to_s]:
            at_s, work, alive = min(due, key=lambda timer: timer[0])
            alive[0] = False
            self.now_s = max(self.now_s, at_s)
            work()
        self.now_s = to_s


STEPS = st.lists(
    st.tuples(st.sampled_from(["until", "keep", "clear", "turn"]), st.sampled_from(["a", "b"]), st.integers(1, 20)),
    max_size=40,
)


@settings(max_examples=500, deadline=None)
@given(STEPS)
def test_watch_expires_exactly_when_a_plain_model_says(steps):
    """For any use, the deadline that counts is the last one set, and it expires once, in its phase, on time."""
    loop, found = FakeLoop(), []
    watch = Watch(loop, lambda phase: found.append((phase, loop.now_s)))
    deadline, expected = None, []
    for what, phase, amount in steps:
        if what == "turn":
            to_s = loop.now_s + amount
            if deadline and deadline[1] <= to_s:
                expected.append(deadline)
                deadline = None
            loop.turn(to_s)
        elif what == "clear":
            watch.clear()
            deadline = None
        elif what == "until" or deadline is None or deadline[0] != phase:
            getattr(watch, what)(float(amount), phase)
            deadline = (phase, loop.now_s + amount)
        else:
            watch.keep(float(amount), phase)
        assert sum(timer[2][0] for timer in loop.timers) <= 1
    assert found == expected
    watch.stop()
    loop.turn(loop.now_s + 1000)
    assert found == expected


@given(st.lists(st.text(max_size=80)))
def test_ignored_header_is_plain_when_names_are_anything(names):
    """The header of ignored members is sorted, plain, within 1 KiB, and names what can be named."""
    value = ignored_header(tuple(names))
    assert len(value) <= IGNORED_BYTES_MAX
    shown = value.decode("ascii").split(", ") if value else []
    assert shown == sorted(set(shown))
    assert all(name == "?" or name in names for name in shown)
    assert all(character.isalnum() or character in "_.-?" for name in shown for character in name)


@given(st.text(max_size=200))
def test_header_text_is_plain_when_a_name_is_anything(text):
    """A name as a header value is printable ASCII, and itself if it was that already."""
    value = header_text(text).decode("ascii")
    assert value.isprintable()
    if text.isascii() and text.isprintable():
        assert value == text


@given(st.one_of(st.binary(max_size=200), st.text(alphabet="aZ09._:/+=- \n", max_size=140).map(str.encode)))
def test_request_id_is_sane_when_it_is_kept(value):
    """A client's id is kept whole or not at all, and what is kept can stand anywhere."""
    kept = sane_id(value)
    if kept is not None:
        assert kept.encode() == value
        assert 1 <= len(kept) <= 128
        assert kept.isprintable()
        assert not set(kept) & set(" \"'<>\\,;")
    else:
        assert not value.isalnum() or len(value) > 128 or not value.isascii()
