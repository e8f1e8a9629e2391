"""What a run leaves behind: what clients got, what providers did, what the gateway says of it."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request as its client saw it, from `began_s` to `ended_s`.

    `whole` says that the answer ended; `left` that the client did not wait. `says` is the id in its body, if that is
    not its own because others ask the same.
    """

    id: str
    kind: str
    model: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    left: bool = False
    began_s: float = 0.0
    ended_s: float = 0.0
    says: str = ""

    @property
    def question(self) -> str:
        """The id by which providers know it."""
        return self.says or self.id


@dataclass
class Called:
    """One call as a provider saw it: `pieces` is the answer that it made, `sent` how many of them it wrote.

    `tokens` are what it reports, different for every call.
    """

    id: str
    label: str
    number: int
    pieces: list[str] = field(default_factory=list)
    sent: int = 0
    tokens: tuple[int, int] = (0, 0)
    vector: list[float] | None = None
    whole: bool = False

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


@dataclass
class Seen:
    """One call as it came by on the wire, before any provider.

    `dropped` says that the connection, which had been used before, ended without a byte of an answer: such a call may
    be sent once more.
    """

    id: str
    provider: str
    dropped: bool = False


@dataclass
class History:
    """Everything. `chains` has the entries of every alias by the version of the aliases; `lines` is the access log.

    `killed` has who was killed and when: a connection that was being taken up at that moment takes what was sent on it
    along, unseen.
    """

    asked: list[Asked] = field(default_factory=list)
    called: list[Called] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    chains: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    killed: list[tuple[str, float]] = field(default_factory=list)

    def copy(self) -> "History":
        """One that may be spoilt."""
        return History(
            [dataclasses.replace(each, headers=dict(each.headers)) for each in self.asked],
            [dataclasses.replace(each, pieces=list(each.pieces)) for each in self.called],
            [dataclasses.replace(each) for each in self.seen],
            [dict(line) for line in self.lines],
            self.chains,
            list(self.samples),
            list(self.killed),
        )

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(value for found, having, value in self.samples if found == name and labels.items() <= having.items())
