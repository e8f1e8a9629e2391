"""Single walks on a clock turned by hand: somebody asks, upstreams say what they are told, and time passes."""

from typing import Any

from mana_llm.routing.answer import Answer
from mana_llm.schema.errors import GatewayError
from mana_llm.schema.targets import Policy, Route, target_of
from tests.routing.walk_world import ERRORS, RealWorld, Running


class Walking(RealWorld):
    """The real router and what is around it. Providers: `one` has one place, `two` has two, `free` as many as come;
    `gone` is not configured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.walks: list[Running] = []
        self.fallbacks: list[tuple[str, str, str]] = []
        self.observer.fallback = lambda *step: self.fallbacks.append(step)  # type: ignore[method-assign]

    def asks(self, *chain: str, stream: bool = False, needs: bool = False, **policy: Any) -> Running:
        """A request for an alias of these entries, or for the only one of them."""
        self.count += 1
        targets = tuple(target_of(*entry.split("/")) for entry in chain)
        route = Route("asked", targets, "mana/any" if len(chain) > 1 else None, "1", Policy(**policy))
        running = self.begin(self.count, route, None, stream=stream, needs=needs)
        running.number = self.count  # type: ignore[attr-defined]
        self.walks.append(running)
        self.settle()
        return running

    def under_way(self) -> list[str]:
        """The entries that are asked now."""
        return [call.label for call in self.upstreams.calls]

    def says(self, label: str, word: str = "ok", number: int | None = None) -> None:
        """The oldest call to an entry ends: `ok`, or the name of an error."""
        call = next(c for c in self.upstreams.calls if c.label == label and number in (None, c.request))
        call.outcome.set_result(None if word == "ok" else ERRORS[word]())
        self.settle()

    def passes(self, seconds: float, step_s: float = 0.01) -> None:
        """Time, in small steps, so that everything happens in its order."""
        until_s = self.loop.now + seconds
        while self.loop.now < until_s:
            self.loop.now = min(self.loop.now + step_s, until_s)
            self.settle()

    def answer(self, running: Running) -> Answer:
        """What a walk that has ended came to."""
        assert running.task.done()
        return running.task.result()

    def error(self, running: Running) -> Any:
        """Why a walk that has ended came to nothing."""
        assert running.task.done()
        error = running.task.exception()
        assert isinstance(error, GatewayError)
        return error

    def reads(self, running: Running, word: str | None = None) -> None:
        """A stream is read to its end, or until it breaks with an error; then it is closed."""
        stream = self.answer(running).stream
        assert stream is not None
        self.do(stream.read())
        if word:
            (said,) = [said for said in self.upstreams.open if said.request == running.number]  # type: ignore[attr-defined]
            said.fate = ERRORS[word]()
        try:
            self.do(stream.read())
        except GatewayError:
            assert word
        stream.close()
        self.settle()

    def streams(self, label: str, word: str | None = None) -> None:
        """A whole streamed request to one entry, from its beginning to its end or break."""
        running = self.asks(label, stream=True)
        self.says(label)
        self.reads(running, word)

    def close(self) -> None:
        """Every client leaves, and nothing is left of them."""
        for running in self.walks:
            running.task.cancel()
        self.settle()
        for running in self.walks:
            if not running.task.cancelled() and not running.task.exception():
                running.task.result().close()
        self.settle()
        assert self.is_at_rest()
        self.loop.close()

    def is_at_rest(self) -> bool:
        """Whether nothing is left over: no call, no open answer, no place, no trial."""
        gates = self.admission.gates.values()
        trials = [breaker.trial for breaker in self.health._breakers.values()]
        return not (self.upstreams.calls or self.upstreams.open or any(trials)) and not any(
            gate.in_flight or gate.waiting or gate._flowing for gate in gates
        )


def reasons(error: Any) -> list[tuple[str, str]]:
    """The rows of `error.attempts`, in short."""
    return [(row["model"], row["reason"]) for row in error.attempts]
