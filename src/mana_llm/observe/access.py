"""One log line for every request, at its end: who asked for what, who answered, what it took. No word of a prompt.

Lines leave in batches, so that neither a lock nor a thread's waking up is paid for by every request.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from mana_llm.observe.lines import LineWriter
from mana_llm.observe.words import iso_time, json_text, plain_text
from mana_llm.ports import Observer
from mana_llm.schema.events import Exchange
from mana_llm.schema.targets import Target

FLUSH_S: Final = 0.2
"""Seconds that a line may wait for others."""
BATCH_BYTES_MAX: Final = 64 * 1024
TEXTS_MAX: Final = 1_024
"""Names that are remembered as they are shown: clients make them up."""
Text = str | msgspec.Raw
_ENCODER: Final = msgspec.json.Encoder()
_NEWLINE: Final = ord("\n")


class Line(msgspec.Struct, omit_defaults=True, gc=False, tag_field="logger", tag="mana_llm.access"):
    """One request. What is unknown, false or nothing is left out; docs/observability.md tells the members."""

    time: str
    request_id: str
    status: int
    duration_ms: float
    lane: str
    caller: str = ""
    model: Text = ""
    alias: str | None = None
    resolved: Text | None = None
    stream: bool = False
    error: str | None = None
    attempts: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    first_token_ms: float | None = None
    overhead_ms: float | None = None
    queued_ms: float | None = None
    prompt_cut: bool = False
    config: str = ""
    estimated: bool = False
    cache: str = "off"


class AccessLog:
    """Logs what `observer` has counted; implements `ports.Observer`. `wall_s` is Unix time."""

    def __init__(self, observer: Observer, writer: LineWriter, wall_s: Callable[[], float]) -> None:
        self._observer = observer
        self._count = observer.request_ended
        self._writer = writer
        self._wall_s = wall_s
        self._write: Callable[[Line, bytearray, int], None] = _show if writer.is_terminal else _ENCODER.encode_into
        self._shown_as: Callable[[str], Text] = plain_text if writer.is_terminal else json_text
        self._texts: dict[str, Text] = {}
        self._batch = bytearray()
        self._lines = 0
        self._batch_bytes_max = BATCH_BYTES_MAX
        self._flushing: asyncio.TimerHandle | None = None
        self._offset_s = 0.0
        self._second = -1
        self._stamp = ""
        # A lookup costs 0.1 µs, formatting the number 0.3 µs.
        self._millis = tuple(f"{ms:03}Z" for ms in range(1000))

    def attempt_ended(self, target: Target, status: str) -> None:
        self._observer.attempt_ended(target, status)

    def stream_broke(self, target: Target, reason: str) -> None:
        self._observer.stream_broke(target, reason)

    def fallback(self, from_model: str, to_model: str, reason: str) -> None:
        self._observer.fallback(from_model, to_model, reason)

    def hedge_ended(self, result: str) -> None:
        self._observer.hedge_ended(result)

    def config_reloaded(self, result: str) -> None:
        self._observer.config_reloaded(result)

    def request_began(self) -> None:
        self._observer.request_began()

    def request_ended(self, exchange: Exchange) -> None:
        self._count(exchange)
        batch = self._batch
        if not batch:
            self._begin(exchange.ended_s)
        # A line is text at once: kept as objects, the lines of a batch cost every request 5 µs of cache misses.
        self._write(self._line(exchange), batch, -1)
        batch.append(_NEWLINE)
        self._lines += 1
        if len(batch) >= self._batch_bytes_max:
            self.flush()

    def flush(self) -> None:
        """Hand over what there is."""
        if self._flushing:
            self._flushing.cancel()
            self._flushing = None
        batch, lines, self._batch, self._lines = self._batch, self._lines, bytearray(), 0
        if lines:
            self._writer.put(batch, lines)

    def close(self) -> None:
        """Hand over what there is; lines that still come leave at once, as no timer will run for them."""
        self._batch_bytes_max = 0
        self.flush()

    def _begin(self, now_s: float) -> None:
        """A batch begins; the offset between the clocks is good for as long as it lasts."""
        self._offset_s = self._wall_s() - now_s
        if self._batch_bytes_max:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def _text(self, name: str) -> Text:
        """A name as it is shown; the last ones are remembered."""
        if len(self._texts) >= TEXTS_MAX:
            self._texts.clear()
        text = self._texts[name] = self._shown_as(name)
        return text

    def _line(self, exchange: Exchange) -> Line:
        target, usage, first_s, overhead_s = exchange.target, exchange.usage, exchange.first_s, exchange.overhead_s
        began_s, ended_s = exchange.began_s, exchange.ended_s
        wall_s = ended_s + self._offset_s
        second = int(wall_s)
        if second != self._second:
            self._second, self._stamp = second, iso_time(second)[:-4]
        return Line(
            self._stamp + self._millis[int((wall_s - second) * 1000)],
            exchange.request_id,
            exchange.status,
            int((ended_s - began_s) * 1e6) / 1e3,
            exchange.lane,
            exchange.caller,
            self._texts.get(exchange.asked) or self._text(exchange.asked),
            exchange.alias,
            None if target is None else self._texts.get(target.label) or self._text(target.label),
            exchange.stream,
            exchange.error,
            exchange.attempts,
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
            exchange.cost_usd,
            int((first_s - began_s) * 1e6) / 1e3 if first_s else None,
            None if overhead_s is None else int(overhead_s * 1e6) / 1e3,
            int(exchange.queued_s * 1e6) / 1e3 if exchange.queued_s else None,
            exchange.prompt_cut,
            exchange.config,
            exchange.estimated,
            exchange.cache,
        )


def _show(line: Line, batch: bytearray, _end: int) -> None:
    """Add the line for somebody who looks at a terminal."""
    batch += " ".join(_words(line)).encode()


def _words(line: Line) -> Iterator[str]:
    yield line.time[11:-1]
    yield str(line.status)
    if line.model:
        yield str(line.model)
    if line.resolved:
        yield f"-> {line.resolved!s}"
    yield f"{line.duration_ms:.1f} ms"
    if line.error:
        yield line.error
    if line.attempts > 1:
        yield f"{line.attempts} attempts"
    if line.tokens_in is not None:
        yield f"{'about ' if line.estimated else ''}{line.tokens_in}+{line.tokens_out} tokens"
    if line.cost_usd:
        yield f"${line.cost_usd:.6f}"
    for word, value_ms in (("first token", line.first_token_ms), ("queued", line.queued_ms)):
        if value_ms is not None:
            yield f"{word} {value_ms:.1f} ms"
    yield from (word for word, said in (("shared", line.cache == "hit"), ("prompt cut", line.prompt_cut)) if said)
    yield line.caller or "-"
    yield line.request_id
