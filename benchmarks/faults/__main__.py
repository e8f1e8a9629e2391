"""`python -m benchmarks.faults`: the scorecard of our own gateway; `--gateway URL` is somebody else's."""

import argparse
import asyncio
import json
import re
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.faults import ours, report
from benchmarks.faults.asking import Door
from benchmarks.faults.card import Card, NotReadyError, Result
from benchmarks.faults.judge import Terms
from benchmarks.faults.rows import FAULTS, Row, rows
from benchmarks.faults.upstreams import Upstreams
from benchmarks.processes import ProcessError

UNFIT: Final = 2
"""Exit code where nothing could be judged."""
FIRST_PORT: Final = 18081
SECOND_PORT: Final = 18082
PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "scorecard.md"
_BACKOFF_S: Final = 1.0
_BLOCK: Final = re.compile(r"(<!-- scorecard -->\n).*?(<!-- /scorecard -->)", re.DOTALL)


def main() -> int:
    """Run the card: 0 if every row passed, 1 if one did not, 2 if nothing could be judged."""
    signal.signal(signal.SIGTERM, _leave)
    options = _options()
    terms = Terms(first_token_s=options.first_token_s, idle_s=options.idle_s, settle_s=options.settle_s)
    try:
        results = asyncio.run(_run(options, terms))
    except (NotReadyError, ProcessError, OSError, ValueError) as error:
        print(f"benchmarks.faults: {error}", file=sys.stderr)
        return UNFIT
    print(json.dumps(report.as_json(results, terms), indent=2) if options.json else report.as_text(results))
    if options.save:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_BLOCK.sub(lambda found: found[1] + report.as_markdown(results) + found[2], text), "utf-8")
    return 0 if all(result.verdict == "pass" for result in results) else 1


async def _run(options: argparse.Namespace, terms: Terms) -> list[Result]:
    chosen = [row for row in rows() if not options.only or row.fault in options.only]
    foreign = options.gateway is not None
    ports = (options.first_port, options.second_port) if foreign else (0, 0)
    async with AsyncExitStack() as stack:
        upstreams = await stack.enter_async_context(Upstreams(options.host, *ports))
        if foreign:
            door = Door.at(options.gateway, options.key, options.model)
            _say(configuration(options, upstreams))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            door = await stack.enter_async_context(ours.served(upstreams, folder, terms, _BACKOFF_S))
        return await Card(door, upstreams, terms).run(chosen, _tell)


def configuration(options: argparse.Namespace, upstreams: Upstreams) -> str:
    """What somebody else's gateway has to be told."""
    return f"""\
The gateway at {options.gateway} has to be configured so (the ports stay the same from run to run):
  first upstream    {upstreams.first.openai_url}  model first, any key, OpenAI-compatible
  second upstream   {upstreams.second.openai_url}  model second, any key, OpenAI-compatible
  model {options.model!r}   asks the first, always, and falls back to the second when the first fails
  first token       after {options.first_token_s:g} s without one the first has failed, plain too (--first-token-s)
  silence           after {options.idle_s:g} s without a byte within an answer likewise (--idle-s)
  back to the first within {options.settle_s:g} s after it is well again (--settle-s): shorten its cool-down
  no cache of answers
Waiting until it answers from the first upstream."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description="Sixteen faults of an upstream.")
    parser.add_argument("--gateway", metavar="URL", help="base URL of a running gateway (default: ours is started)")
    parser.add_argument("--key", default="", help="what its callers send as a bearer token")
    parser.add_argument("--model", default="card", metavar="NAME", help="its model with the two upstreams behind it")
    parser.add_argument("--host", default="127.0.0.1", help="address that the two upstreams listen on")
    parser.add_argument("--first-port", type=int, default=FIRST_PORT, help="for --gateway")
    parser.add_argument("--second-port", type=int, default=SECOND_PORT, help="for --gateway")
    parser.add_argument("--first-token-s", type=float, default=Terms.first_token_s, help="the gateway's own limit")
    parser.add_argument("--idle-s", type=float, default=Terms.idle_s, help="its limit on silence within an answer")
    parser.add_argument("--settle-s", type=float, default=Terms.settle_s, help="how long it may shun an upstream")
    parser.add_argument("--only", nargs="+", choices=FAULTS, metavar="FAULT", help=f"some of: {', '.join(FAULTS)}")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--save", action="store_true", help="also write the table into docs/scorecard.md")
    options = parser.parse_args()
    if options.save and (options.gateway or options.only):
        parser.error("--save keeps the whole card of our own gateway")
    return options


def _tell(row: Row) -> None:
    _say(f"... {row.fault}, {row.moment}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
