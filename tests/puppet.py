"""An upstream that says exactly what a test tells it to, byte for byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def puppet(play: Play) -> AsyncIterator[str]:
    """Listen; `play` is called for each connection and closes it by returning. Gives the base URL."""
    playing: set[asyncio.Task[None]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.add(task)
        try:
            await play(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            playing.discard(task)
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in list(playing):
            task.cancel()


async def request_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head, await reader.readexactly(size)


def saying(pieces: Iterable[bytes], requests: list[tuple[bytes, bytes]] | None = None) -> Play:
    """Answer every connection's first request with these pieces, each a write of its own, then close."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await request_of(reader)
        if not request[0].startswith(b"POST "):
            # A list of models, which the gateway asks for by itself.
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if requests is not None:
            requests.append(request)
        for piece in pieces:
            writer.write(piece)
            # The transport writes at once when it can: a turn of the loop makes it a segment of its own.
            await asyncio.sleep(0)
        await writer.drain()

    return play


def answer(body: bytes, head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n") -> bytes:
    """A whole answer."""
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
