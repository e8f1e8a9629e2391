"""The part of a client's connection that writes: what one turn of the loop has to say leaves as one."""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mana_llm.kit.outbox import Outbox

WRITE_BYTES_MAX: Final = 16_384
"""Bytes of an answer that may wait here for the client to read; the rest waits at the provider."""
UNSENT_BYTES_MAX: Final = 8_192
"""Bytes that wait for the end of the turn; more leave at once."""


class Writing(HttpToolsProtocol):
    """Bytes on their way out, in the order in which they came."""

    outbox: Outbox

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0

    def write(self, data: bytes) -> None:
        """Send `data` soon, behind what is waiting."""
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > UNSENT_BYTES_MAX:
            self.flush()
        else:
            self.outbox.add(self)

    def flush(self) -> None:
        """Send what waits now: whoever closes the connection, or its sending half, does so first."""
        unsent = self._unsent
        if not unsent:
            return
        data = unsent[0] if len(unsent) == 1 else b"".join(unsent)
        self.drop_unsent()
        if not self.transport.is_closing():
            self.transport.write(data)

    def drop_unsent(self) -> None:
        """Forget what waits: there is nobody to send it to."""
        self._unsent.clear()
        self._unsent_bytes = 0

    def writing(self) -> bool:
        """Whether something that was said has not left yet."""
        return bool(self._unsent) or self.transport.get_write_buffer_size() > 0
