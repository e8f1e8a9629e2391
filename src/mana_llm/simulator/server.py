"""The simulator itself: one listener that plays every upstream, told apart by path.

    async with Simulator() as simulator:
        client = openai.AsyncOpenAI(base_url=simulator.openai_url, api_key="any")
        simulator.script("sim.status.code-503", times=1)
        ...
        await simulator.wait_until(lambda: simulator.open_connections == 0, timeout_s=1.0)

Leaving the block ends every connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs

import msgspec

from mana_llm.simulator.connection import Connection
from mana_llm.simulator.control import PREFIX, control, script_of
from mana_llm.simulator.http import Request, masked
from mana_llm.simulator.log import LogEntry
from mana_llm.simulator.names import BadNameError
from mana_llm.simulator.perform import perform
from mana_llm.simulator.reply import RefusedError, Reply
from mana_llm.simulator.routes import Route, route
from mana_llm.simulator.rules import Rule, Rules
from mana_llm.simulator.script import Fault, Json, Script
from mana_llm.simulator.voice import Call, Moment
from mana_llm.simulator.wire import Step

LOG_ENTRIES_MAX: Final = 10_000
# The instant that simulated answers count from: 2026-10-01T00:00:00Z, so that no wall clock is needed.
EPOCH_S: Final = 1_790_812_800


class Simulator:
    """A listener on `host` and `port` (0 chooses one) that answers as Ollama, OpenAI and Gemini do.

    `flavour` is the OpenAI-compatible cloud that the bare /v1 plays; `require_key` makes every other key
    be refused. `log` holds every request, the newest LOG_ENTRIES_MAX of them.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        flavour: str = "openai",
        require_key: str | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.log: deque[LogEntry] = deque(maxlen=LOG_ENTRIES_MAX)
        self._ssl_context = ssl_context
        self._flavour = flavour
        self._require_key = require_key
        self._rules = Rules()
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._connections_made = 0
        self._requests_begun = 0
        self._waiters: set[asyncio.Event] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.start_listening()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and end every connection."""
        await self.close()

    def __repr__(self) -> str:
        state = "listening" if self._server else "closed"
        return f"<Simulator {self.url} {state}, {self.open_connections} connections, {len(self.log)} logged>"

    @property
    def url(self) -> str:
        """The listener's own URL, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._ssl_context else 'http'}://{host}:{self.port}"

    @property
    def ollama_url(self) -> str:
        """What an Ollama client takes as its host."""
        return self.url

    @property
    def google_url(self) -> str:
        """What a google-genai client takes as its base URL."""
        return self.url

    @property
    def openai_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.url}/v1"

    @property
    def open_connections(self) -> int:
        """How many client connections are open now."""
        return len(self._connections)

    @property
    def connections_made(self) -> int:
        """How many connections were ever accepted, refused ones included."""
        return self._connections_made

    def script(
        self,
        script: Script | str,
        *,
        model: str | None = None,
        path: str | None = None,
        times: int | None = None,
    ) -> None:
        """Answer by this script from now on: for all requests, one model, or paths that contain `path`.

        The newest rule that fits wins. Raises: BadNameError for a str that is no name with a script.
        """
        self._rules.add(Rule(script=script_of(script), model=model, path=path, times=times))

    def clear_scripts(self) -> None:
        """Answer normally again."""
        self._rules.clear()

    async def start_listening(self) -> None:
        """Accept connections (again), at the same port once it is known."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connection, self.host, self.port, ssl=self._ssl_context, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop_listening(self) -> None:
        """Refuse new connections as a closed port does; those that are open stay so."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop listening and end every connection; safe to call twice."""
        await self.stop_listening()
        tasks = [connection.task for connection in self._connections if connection.task]
        for connection in tuple(self._connections):
            connection.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_until(self, predicate: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Return as soon as the predicate holds, asked again at each change of the log or the connections.

        Raises: TimeoutError after `timeout_s` seconds.
        """
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                while not predicate():
                    changed.clear()
                    await changed.wait()
        finally:
            self._waiters.discard(changed)

    # The names below are what a Connection asks of its host.

    def opened(self, connection: Connection) -> bool:
        """Count a connection; False when a rule refuses it."""
        self._connections.add(connection)
        self.changed()
        return not self._rules.refuses()

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self.changed()

    def changed(self) -> None:
        """Wake everyone who waits for a change."""
        for waiter in self._waiters:
            waiter.set()

    def begin(self, connection: Connection, request: Request) -> tuple[LogEntry, Iterator[Step]]:
        """Log a request and decide its answer."""
        bodiless = request.method == "HEAD"
        if request.path.startswith(PREFIX):
            reply = control(request, self._rules, self.log)
            entry = self._entry(connection, request, Route(_NOBODY, "control"), {})
            return entry, perform(reply, Script(), _NOBODY, bodiless=bodiless)
        self._requests_begun += 1
        found = route(request, self._flavour)
        body = _json(request.body)
        entry = self._entry(connection, request, found, body)
        self.log.append(entry)
        self.changed()
        script, reply = self._decide(request, found, body, entry)
        entry.status = reply.status
        return entry, perform(reply, script, found.voice, bodiless=bodiless)

    def _decide(self, request: Request, found: Route, body: Any, entry: LogEntry) -> tuple[Script, Reply]:
        try:
            script = self._rules.script_for(entry.model, request.path)
        except BadNameError as error:
            return Script(), found.voice.refusal(Fault(kind="status", code=400, message=str(error)))
        if script.fails("status"):
            # The reply is replaced whatever it is, so an invalid request may be answered so, too.
            return script, found.voice.refusal(script.fault or Fault(kind="status"))
        try:
            return script, self._reply(request, found, body, script)
        except RefusedError as refused:
            return msgspec.structs.replace(script, fault=None), refused.reply
        except (AttributeError, TypeError, ValueError, KeyError):
            # A body of some shape that no client sends; the readers above are no schema validators.
            malformed = Fault(kind="status", code=400, message="[simulated] the body has a wrong shape")
            return Script(), found.voice.refusal(malformed)

    def _reply(self, request: Request, found: Route, body: Any, script: Script) -> Reply:
        key = script.require_key or self._require_key
        given = _key(request)
        if key is not None and given != key and not found.voice.public(found.operation):
            raise RefusedError(found.voice.bad_key(missing=not given))
        if request.method == "POST" and not isinstance(body, dict):
            bad_json = Fault(kind="status", code=400, message="[simulated] the body is no JSON object")
            raise RefusedError(found.voice.refusal(bad_json))
        moment = Moment(self._requests_begun, EPOCH_S + self._requests_begun)
        fields: Json = body if isinstance(body, dict) else {}
        call = Call(operation=found.operation, model=found.model, body=fields, moment=moment)
        return found.voice.reply(call, script)

    def _entry(self, connection: Connection, request: Request, found: Route, body: Any) -> LogEntry:
        named = body.get("model") if isinstance(body, dict) else None
        return LogEntry(
            number=self._requests_begun,
            method=request.method,
            path=request.path,
            query=_masked_query(request.query),
            headers=masked(request.headers),
            body=body,
            dialect=found.voice.dialect,
            model=found.model or (named if isinstance(named, str) else ""),
            connection=connection.number,
            connected_at=connection.connected_at,
            received_at=asyncio.get_running_loop().time(),
        )

    def _connection(self) -> Connection:
        self._connections_made += 1
        return Connection(self, self._connections_made)


async def serve(
    host: str = "127.0.0.1", port: int = 11434, *, flavour: str = "openai", require_key: str | None = None
) -> Simulator:
    """A simulator that listens; the caller closes it. Port 11434 is Ollama's own."""
    simulator = Simulator(host=host, port=port, flavour=flavour, require_key=require_key)
    await simulator.start_listening()
    return simulator


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _key(request: Request) -> str:
    bearer = request.header("authorization").removeprefix("Bearer ").strip()
    in_query = parse_qs(request.query).get("key", [""])[0]
    return bearer or request.header("x-goog-api-key") or in_query


def _masked_query(query: str) -> str:
    return "&".join("key=***" if part.startswith("key=") else part for part in query.split("&"))


_NOBODY: Final = route(Request(method="GET", path="/", query="", headers=(), body=b"", keep_alive=True), "openai").voice
