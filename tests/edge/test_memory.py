"""The account of large bodies: what is taken is given back however a request ends, and what turns one away."""

import asyncio
import logging
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.edge import footprint
from mana_llm.edge.app import Endpoint, Gateway, Services
from mana_llm.edge.auth import Authenticator
from mana_llm.edge.lifecycle import Lifecycle
from mana_llm.edge.memory import COPIES, FREE_BODY_BYTES, GROWTH_BYTES, LOOK_S, MANY_BYTES, TRIM_S, Memory
from mana_llm.kit.ids import Ids
from mana_llm.observe.clock import SystemClock
from mana_llm.routing.aliases import AliasRegistry
from tests.edge.test_answers import Unobserving, _nothing
from tests.edge.wire import ask, client, edge, request, run, until

MIB = 1 << 20
BASE = 40 * MIB
LARGE = b"x" * (4 * FREE_BODY_BYTES)
HEAD = b"POST %b HTTP/1.1\r\nHost: gateway\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(LARGE) // 4, LARGE[: len(LARGE) // 4])


class Machine:
    """A system whose figures the test sets; trimming leaves `needed`."""

    def __init__(self) -> None:
        self.used = self.needed = BASE
        self.looks = self.trims = 0

    def look(self) -> int:
        self.looks += 1
        return self.used

    def trim(self) -> None:
        self.trims += 1
        self.used = self.needed

    def memory(self, room_bytes: int) -> Memory:
        """With so many bytes for bodies."""
        return Memory(BASE + GROWTH_BYTES + room_bytes, self.look, self.trim)


def test_body_is_turned_away_when_the_account_is_full():
    """What is taken counts three times until it is given back; what does not fit takes nothing."""
    memory = Machine().memory(6 * MIB * COPIES)
    assert memory.take(4 * MIB, 0.0)
    assert not memory.take(3 * MIB, 0.0)
    assert memory.take(2 * MIB, 0.0)
    memory.give(4 * MIB)
    assert memory.take(3 * MIB, 0.0)
    assert memory.held == 5 * MIB * COPIES


def test_body_is_turned_away_when_something_else_has_the_memory():
    """What the account does not know counts as well; once it is gone, within a tenth of a second all is well."""
    machine = Machine()
    memory = machine.memory(100 * MIB)
    assert memory.take(MIB, 0.0)
    machine.used = machine.needed = BASE + GROWTH_BYTES + 99 * MIB
    assert not memory.take(MIB, 10.0)
    assert machine.trims == 1
    machine.used = machine.needed = BASE
    assert memory.take(MIB, 10.0 + 2 * LOOK_S)


def test_memory_is_looked_at_seldom_when_bodies_are_many():
    """Ten looks a second and one trim are the most that it costs, taken or not."""
    machine = Machine()
    memory = machine.memory(100 * MIB)
    memory.take(MIB, 0.0)
    machine.used = machine.needed = BASE + 1000 * MIB
    before = machine.looks
    for step in range(1000):
        assert not memory.take(MIB, 100.0 + step / 1000)
    assert machine.looks - before <= 12
    assert machine.trims == 1


def test_body_is_let_in_when_only_free_memory_is_in_the_way():
    """What the allocator keeps is given back before anybody is turned away."""
    machine = Machine()
    memory = machine.memory(100 * MIB)
    assert memory.take(MIB, 0.0)
    machine.used = BASE + 1000 * MIB
    assert memory.take(MIB, 10.0)
    assert machine.trims == 1


def test_one_body_is_let_in_when_the_system_says_that_there_is_no_room():
    """With nothing held, one goes: a process that has grown for good still serves."""
    machine = Machine()
    memory = machine.memory(100 * MIB)
    machine.used = machine.needed = BASE + 1000 * MIB
    assert memory.take(MIB, 10.0)
    assert not memory.take(MIB, 10.0)


def test_free_memory_is_given_back_when_the_last_of_many_bodies_is_gone():
    """Once, and not for a few bodies, which are not worth it."""
    machine = Machine()
    memory = machine.memory(1000 * MIB)
    memory.take(MANY_BYTES // COPIES + 1, 0.0)
    memory.rest(0.0)
    memory.give(MANY_BYTES // COPIES + 1)
    memory.rest(TRIM_S)
    memory.rest(3 * TRIM_S)
    memory.take(MIB, 5 * TRIM_S)
    memory.give(MIB)
    memory.rest(7 * TRIM_S)
    assert machine.trims == 1


def test_everything_is_let_in_when_there_is_no_bound():
    """Without a bound nothing is looked at."""
    machine = Machine()
    memory = Memory(0, machine.look, machine.trim)
    assert all(memory.take(1000 * MIB, 0.0) for _ in range(100))
    assert memory.body_bytes_max(20 * MIB) == 20 * MIB
    assert machine.looks == 0


@pytest.mark.parametrize(("room", "largest"), [(100 * MIB, 20 * MIB), (40 * MIB, 10 * MIB), (-MIB, FREE_BODY_BYTES)])
def test_largest_body_fits_when_it_is_alone(room, largest):
    """A body that could never be served is too large, not early."""
    assert Machine().memory(room).body_bytes_max(20 * MIB) == largest


ENDS = {
    "answered": HEAD % b"/echo" + b"Content-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE),
    "grown": HEAD % b"/echo" + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 4 + b"0\r\n\r\n",
    "too large": HEAD % b"/echo" + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 20,
    "no chunk": HEAD % b"/echo" + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 3 + b"z\r\n",
    "half": HEAD % b"/echo" + b"Content-Length: %d\r\n\r\n%b" % (2 * len(LARGE), LARGE),
    "bug": HEAD % b"/bug" + b"Content-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE),
    "starved": HEAD % b"/starve" + b"Content-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE),
    "unread": HEAD % b"/early" + b"Content-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE),
    "waited for": HEAD % b"/hang" + b"Content-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE),
    "last": HEAD % b"/echo" + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE),
    "small": HEAD % b"/echo" + b"Content-Length: 2\r\n\r\n{}",
    "nonsense": b"NONSENSE\r\n\r\n",
}


def _app(gone):
    """Does by path what it may do; whoever is made to wait waits for `gone` at most."""

    async def app(scope, receive, send):
        body = b"early"
        if scope["path"] != "/early":
            body = (await receive()).get("body", b"")
        if scope["path"] == "/bug":
            raise ZeroDivisionError
        if scope["path"] == "/starve":
            raise MemoryError
        if scope["path"] == "/hang":
            await gone.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    return app


async def _play(clients, room_bytes):
    gone = asyncio.Event()
    async with edge(_app(gone), body_s=0.2, memory_bytes_max=room_bytes and _bound(room_bytes)) as running:
        memory = running.server.config.http.memory

        async def one(ends, patient):
            async with client(running.port) as caller:
                caller.send(b"".join(ENDS[end] for end in ends))
                if patient:
                    with_answer = asyncio.create_task(caller.reader.read(100))
                    await asyncio.wait([with_answer], timeout=0.02)
                    with_answer.cancel()
                caller.writer.transport.abort()

        await asyncio.gather(*[one(*each) for each in clients])
        asyncio.get_running_loop().call_later(0.01, gone.set)
        state = running.server.server_state
        await until(lambda: not state.connections and not state.tasks)
        assert memory.held == 0
        return memory.held_most


def _bound(room_bytes: int) -> int:
    return footprint.used_bytes() + GROWTH_BYTES + room_bytes


def test_all_is_given_back_when_requests_end_in_any_way():
    """Answered, refused, too large, cut half-way, pipelined, failed, left: at the end nothing is held."""
    one = st.tuples(st.lists(st.sampled_from(sorted(ENDS)), min_size=1, max_size=4), st.booleans())

    @settings(max_examples=30, deadline=None)
    @given(st.lists(one, min_size=1, max_size=6), st.sampled_from([0, 8 * len(LARGE) * COPIES]))
    def property_(clients, room_bytes):
        run(_play(clients, room_bytes))

    logging.disable(logging.CRITICAL)
    try:
        property_()
    finally:
        logging.disable(logging.NOTSET)


def test_body_counts_when_it_is_large():
    """A large body is held, with Content-Length or in chunks; a small one is not."""
    assert run(_play([(["waited for"], True)], 0)) == len(LARGE) * COPIES
    assert run(_play([(["grown"], True)], 0)) >= len(LARGE) * COPIES
    assert run(_play([(["small"], True)], 0)) == 0


def test_client_is_told_503_when_memory_runs_out(caplog):
    """A MemoryError in a request is a 503 that says when to come again, one log line a second, and no traceback."""

    async def starved(scope, receive, send):
        raise MemoryError

    async def play():
        parts = (Authenticator(()), Unobserving(), SystemClock(), Ids("req-"))
        aliases = AliasRegistry("aliases: {mana/any: {chain: [lab/any]}}\ndefault: mana/any", {"lab": ""}, "lab")
        lifecycle = Lifecycle()
        services = Services(*parts, _nothing, _nothing, lifecycle, aliases)
        app = Gateway(services, {}, {"/starved": Endpoint({"GET": starved})})
        async with edge(app) as running:
            answers = [await ask(running.port, request("GET", "/starved")) for _ in range(20)]
            await until(lambda: caplog.records)
        return answers, lifecycle.shed.counts

    answers, counts = run(play())
    for answer in answers:
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert counts == {"descriptors": 0, "memory": 20}
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "turned away for want of memory: 20 within a second"
    ]
    assert not caplog.records[0].exc_info


def test_client_is_told_503_when_memory_runs_out_while_its_body_is_read(monkeypatch):
    """A MemoryError within the parser is no malformed request; the next client is served."""

    def taken(*_):
        raise MemoryError

    async def play():
        async with edge() as running:
            with monkeypatch.context() as short:
                short.setattr(Memory, "take", taken)
                answer = await ask(running.port, ENDS["answered"])
            return answer, await ask(running.port, ENDS["answered"])

    answer, after = run(play())
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert (after.status, after.body) == (200, LARGE)


def test_loop_counts_what_memory_cost_when_it_is_told(caplog):
    """A read for which there was no memory is counted with the others; anything else is told as before."""

    async def play():
        async with edge() as running:
            loop = asyncio.get_running_loop()
            for _ in range(3):
                loop.call_exception_handler({"message": "Fatal error on transport", "exception": MemoryError()})
            loop.call_exception_handler({"message": "something else", "exception": LookupError()})
            return running.server.config.http.lifecycle.shed.counts["memory"]

    assert run(play()) == 3
    assert [record.getMessage().partition("\n")[0] for record in caplog.records] == ["something else"]


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "1000"}, 1000),
        ("0::/\n", {"memory.max": "max"}, 0),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "500", "memory.max": "1000"}, 500),
        ("0::/not/here\n", {"memory.max": "700"}, 700),
        ("5:cpu,memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 0),
        ("5:cpu:/\n4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": "800"}, 800),
        (None, {}, 0),
    ],
)
def test_container_limit_is_found_when_the_kernel_has_one(tmp_path, groups, files, limit):
    """In either version of control groups, of this group or one above it, the path being the host's or not."""
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    assert footprint.container_bytes(tmp_path) == limit


def test_share_is_each_workers_when_a_container_has_a_limit(tmp_path):
    """Four fifths of it, divided among those that serve; none without a limit."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("1000\n")
    unlimited = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    assert footprint.allowed_bytes(4, tmp_path) == 200
    assert footprint.allowed_bytes(1, tmp_path / "nowhere") == 0 or not unlimited
