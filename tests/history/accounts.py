"""What is counted, logged and seen comes to the same sums."""

from collections import Counter
from collections.abc import Iterator

from tests.history.records import History
from tests.history.shared import is_hit

NO_CONNECTION = "ProviderConnectError"
UNSEEN = ("ProviderProtocolError", "ProviderTimeoutError")
"""What comes of a call whose connection was just being taken up by somebody who was killed in that moment."""


def sums(history: History) -> Iterator[str]:
    """What is counted is what the log's lines come to."""
    lines = history.lines
    if not history.samples:
        return
    for status, count in Counter(line["status"] for line in lines).items():
        counted = history.counted("mana_llm_requests_total", status=str(status))
        if counted != count:
            yield f"{counted} requests with {status} are counted, {count} logged"
    total = history.counted("mana_llm_requests_total")
    if total != len(lines):
        yield f"{total} requests are counted, {len(lines)} logged"
    for kind, member in (("input", "tokens_in"), ("output", "tokens_out")):
        logged = sum(line.get(member) or 0 for line in lines)
        counted = history.counted("mana_llm_tokens_total", type=kind)
        if counted != logged:
            yield f"{counted} {kind} tokens are counted, {logged} logged"
    for (alias, target), count in Counter(
        (line["alias"], line["resolved"]) for line in lines if line.get("alias") and line.get("resolved")
    ).items():
        counted = history.counted("mana_llm_alias_resolved_total", alias=alias, target=target)
        if counted != count:
            yield f"{counted} answers of {alias} by {target} are counted, {count} logged"
    yield from _answers(history)
    yield from _attempts(history)


def _answers(history: History) -> Iterator[str]:
    """Every answer that a provider gave has a line that names it, and every break is counted once."""
    answered = [line for line in history.lines if line.get("resolved") and not is_hit(line)]
    counted = history.counted("mana_llm_llm_requests_total", status="ok")
    left = sum(asked.left for asked in history.asked)
    if not 0 <= counted - len(answered) <= left:
        yield f"{counted} answers are counted, {len(answered)} logged"
    broken = sum(line.get("error", "").startswith("Provider") for line in answered)
    counted = history.counted("mana_llm_streams_broken_total")
    if counted != broken:
        yield f"{counted} broken streams are counted, {broken} logged"


def _attempts(history: History) -> Iterator[str]:
    """Every attempt that is told came by on the wire, or got no connection, or was given up while connecting."""
    told = sum(line.get("attempts", 0) for line in history.lines)
    counted = history.counted("mana_llm_llm_requests_total")
    if counted != told:
        yield f"{counted} attempts are counted, {told} logged"
    # Who asks the same as others is known to providers by one id.
    asked = Counter((each.id, each.provider) for each in history.seen)
    again = Counter((each.id, each.provider) for each in history.seen if each.dropped)
    came = sum(max(1, count - again[which]) for which, count in asked.items())
    unheard = history.counted("mana_llm_llm_requests_total", status=NO_CONNECTION)
    given_up = history.counted("mana_llm_llm_requests_total", status="cancelled")
    if history.killed:
        given_up += history.counted("mana_llm_llm_requests_total", status=UNSEEN[0])
    # One that was dropped may have found no connection when it was sent again.
    dropped = sum(each.dropped for each in history.seen)
    if not -dropped <= told - came - unheard <= given_up:
        yield f"{told} attempts are logged, {came} came by, {unheard} had no connection, {given_up} were given up"
