"""The two upstreams of the card. Whose words an answer has can be told from each piece of it."""

from types import TracebackType
from typing import Final, Self

from benchmarks.faults.rows import Row
from mana_llm.simulator import Script, Simulator

PIECES: Final = 12
FIRST_TEXT: Final = "".join(f"<first {number}>" for number in range(PIECES))
SECOND_TEXT: Final = "".join(f"<second {number}>" for number in range(PIECES))
CHAT: Final = "/chat/completions"
LATE_TIMES: Final = 3
"""A slow first token comes after so many times the limit, and a second."""


class Upstreams:
    """Both listen on `host`; a port of 0 is chosen anew."""

    def __init__(self, host: str = "127.0.0.1", first_port: int = 0, second_port: int = 0) -> None:
        self.first = Simulator(host=host, port=first_port)
        self.second = Simulator(host=host, port=second_port)

    async def __aenter__(self) -> Self:
        """Listen, both well."""
        await self.first.start_listening()
        await self.second.start_listening()
        self.second.script(Script(text=SECOND_TEXT, chunks=PIECES), path=CHAT)
        await self.mend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both."""
        await self.first.close()
        await self.second.close()

    async def mend(self) -> None:
        """Make the first well again, at its own port."""
        self.first.clear_scripts()
        self.first.script(Script(text=FIRST_TEXT, chunks=PIECES), path=CHAT)
        await self.first.start_listening()

    async def harm(self, row: Row, first_token_s: float) -> None:
        """Give the first the row's fault. Only chat has it: whatever else a gateway asks for is answered."""
        if row.script is None and not row.late:
            await self.first.close()
            return
        first_s = first_token_s * LATE_TIMES + 1.0 if row.late else 0.0
        self.first.script(Script(text=FIRST_TEXT, chunks=PIECES, first_s=first_s, fault=row.script), path=CHAT)

    def asked(self) -> int:
        """How many chat requests have reached the first."""
        return sum(entry.method == "POST" and CHAT in entry.path for entry in self.first.log)
