"""`python -m benchmarks`: measure, print the tables, keep the results; `profile NAME` shows where the time goes."""

import argparse
import signal
import sys
import time
from types import FrameType

from benchmarks import budget, profile, report, suite
from benchmarks.machine import UnfitError
from benchmarks.processes import ProcessError

UNFIT = 2
"""Exit code where this machine cannot measure."""


def main() -> int:
    """Run what was asked for; the exit code. A missed budget is no failure: machines differ."""
    # As Ctrl-C: whatever ends us, our children end first.
    signal.signal(signal.SIGTERM, _leave)
    options = _options()
    try:
        if options.command == "profile":
            print(profile.run(options.scenario))
        else:
            _measure(quick=options.quick, save=options.save)
    except UnfitError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return UNFIT
    except ProcessError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(*, quick: bool, save: bool) -> None:
    began_at = time.monotonic()
    results = suite.run(lambda title: print(f"... {title}", file=sys.stderr, flush=True), quick=quick)
    results["budget"] = budget.judge(results)
    print(report.as_text(results))
    written = ", ".join(path.name for path in report.keep(results, save=save))
    print(f"\n{time.monotonic() - began_at:.0f} s; written to benchmarks/: {written}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against the budget.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="one short round of each: half a minute, and rough")
    length.add_argument("--save", action="store_true", help="also write results.json and RESULTS.md, which are kept")
    commands = parser.add_subparsers(dest="command")
    profiling = commands.add_parser("profile", help="sample the gateway under one scenario with py-spy")
    profiling.add_argument("scenario", nargs="?", default="plain-32", choices=profile.names())
    return parser.parse_args()


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
