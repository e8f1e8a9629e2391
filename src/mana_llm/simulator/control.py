"""The control endpoint: scripts and the log over HTTP, for when the simulator is a process of its own.

    GET    /_simulator/script     the rules in force
    PUT    /_simulator/script     {"script": {...} | "sim.cut.after-3", "model"?, "path"?, "times"?}
    DELETE /_simulator/script     forget all rules
    GET    /_simulator/log        every request and its fate
    DELETE /_simulator/log        forget them

The newest rule that fits a request wins; control requests themselves are never logged.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any, Final

import msgspec

from mana_llm.simulator.http import Request
from mana_llm.simulator.log import LogEntry
from mana_llm.simulator.names import BadNameError, script_in
from mana_llm.simulator.reply import Reply, whole
from mana_llm.simulator.rules import Rule, Rules
from mana_llm.simulator.script import Script

PREFIX: Final = "/_simulator/"


class _Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    script: Script | str
    model: str | None = None
    path: str | None = None
    times: int | None = None


def control(request: Request, rules: Rules, log: MutableSequence[LogEntry]) -> Reply:
    """Do what a control request asks, and answer it."""
    what = (request.method, request.path.removeprefix(PREFIX).rstrip("/"))
    if what == ("GET", "script"):
        return whole(200, {"rules": rules.listed()})
    if what == ("PUT", "script"):
        return _put(request.body, rules)
    if what == ("DELETE", "script"):
        rules.clear()
        return whole(200, {"rules": []})
    if what == ("GET", "log"):
        return whole(200, {"log": listed(log)})
    if what == ("DELETE", "log"):
        log.clear()
        return whole(200, {"log": []})
    return whole(404, {"error": "[simulated] the control endpoint has script and log"})


def listed(log: MutableSequence[LogEntry]) -> list[Any]:
    """The log as JSON, oldest first."""
    return [msgspec.to_builtins(entry) for entry in log]


def script_of(script: Script | str) -> Script:
    """A script given as such or in the grammar of names. Raises: BadNameError."""
    if isinstance(script, Script):
        return script
    found = script_in(script)
    if found is None:
        raise BadNameError(f"[simulated] {script!r} does not begin with sim.")
    return found


def _put(body: bytes, rules: Rules) -> Reply:
    try:
        order = msgspec.json.decode(body, type=_Order)
        script = script_of(order.script)
    except (msgspec.DecodeError, BadNameError) as error:
        return whole(400, {"error": str(error)})
    if script.fails("refuse") and order.model is None and order.times is None:
        # Such a rule would refuse the very connection that could take it back.
        return whole(400, {"error": "[simulated] refusing all connections needs `times` here"})
    rules.add(Rule(script=script, model=order.model, path=order.path, times=order.times))
    return whole(200, {"rules": rules.listed()})
