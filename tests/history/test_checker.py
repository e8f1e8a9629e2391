"""The checker finds what it is for: each kind of contradiction, put into a history that has none, is named."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.history.checker import violations
from tests.history.records import Asked, Called, History, Seen

PIECES = ["<r-0000001 u1 7 0>", "<r-0000001 u1 7 1>", "<r-0000001 u1 7 2>"]
OTHERS = ["<r-0000002 u2 8 0>", "<r-0000002 u2 8 1>"]
CHAIN = ["u1/m", "u2/m"]


def head(name: str, label: str, kind: str) -> dict[str, str]:
    return {
        "x-request-id": name,
        "content-type": kind,
        "x-mana-llm-resolved": label,
        "x-mana-llm-attempts": "1",
        "x-mana-llm-config": "v1",
    }


def events(pieces: list[str], label: str, tokens: tuple[int, int]) -> list[Any]:
    """A stream's events, its end mark left out."""
    chunks = [{"delta": {"content": piece}, "finish_reason": None} for piece in pieces]
    chunks.append({"delta": {}, "finish_reason": "stop"})
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return [
        *({"model": label, "choices": [chunk]} for chunk in chunks),
        {"model": label, "choices": [], "usage": usage},
    ]


def stream_of(found: list[Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in found) + b"data: [DONE]\n\n"


def plain_of(text: str, label: str, tokens: tuple[int, int]) -> bytes:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return json.dumps({"model": label, "choices": [choice], "usage": usage}).encode()


def line(name: str, label: str, tokens: tuple[int, int]) -> dict[str, Any]:
    found = {"request_id": name, "status": 200, "alias": "mana/a", "resolved": label, "attempts": 1}
    return {**found, "tokens_in": tokens[0], "tokens_out": tokens[1]}


def good() -> History:
    """A stream, a whole answer and a failure, told of by everybody in the same way."""
    attempts = [
        {"model": "u1/m", "reason": "ProviderServerError", "detail": ""},
        {"model": "u2/m", "reason": "cache-unhealthy", "detail": ""},
    ]
    failed = json.dumps({"error": {"code": "no_healthy_provider", "attempts": attempts}}).encode()
    failed_head = head("r-0000003", "", "application/json")
    del failed_head["x-mana-llm-resolved"]
    streamed, typed = head("r-0000001", "u1/m", "text/event-stream"), head("r-0000002", "u2/m", "application/json")
    counts = {"requests": 3, "ok": 2, "failed": 1, "input": 15, "output": 5}
    return History(
        asked=[
            Asked(
                "r-0000001", "stream", "mana/a", 200, streamed, stream_of(events(PIECES, "u1/m", (7, 3))), whole=True
            ),
            Asked("r-0000002", "plain", "mana/a", 200, typed, plain_of("".join(OTHERS), "u2/m", (8, 2)), whole=True),
            Asked("r-0000003", "plain", "mana/a", 503, failed_head, failed, whole=True),
        ],
        called=[
            Called("r-0000001", "u1/m", 7, list(PIECES), 3, (7, 3), whole=True),
            Called("r-0000002", "u2/m", 8, list(OTHERS), 2, (8, 2), whole=True),
            Called("r-0000003", "u1/m", 9),
        ],
        seen=[Seen("r-0000001", "u1"), Seen("r-0000002", "u2"), Seen("r-0000003", "u1")],
        lines=[
            line("r-0000001", "u1/m", (7, 3)),
            line("r-0000002", "u2/m", (8, 2)),
            {"request_id": "r-0000003", "status": 503, "alias": "mana/a", "attempts": 1},
        ],
        chains={"v1": {"mana/a": CHAIN}},
        samples=[
            ("mana_llm_requests_total", {"status": "200"}, counts["ok"]),
            ("mana_llm_requests_total", {"status": "503"}, counts["failed"]),
            ("mana_llm_tokens_total", {"type": "input"}, counts["input"]),
            ("mana_llm_tokens_total", {"type": "output"}, counts["output"]),
            ("mana_llm_alias_resolved_total", {"alias": "mana/a", "target": "u1/m"}, 1),
            ("mana_llm_alias_resolved_total", {"alias": "mana/a", "target": "u2/m"}, 1),
            ("mana_llm_llm_requests_total", {"status": "ok"}, counts["ok"]),
            ("mana_llm_llm_requests_total", {"status": "ProviderServerError"}, counts["failed"]),
        ],
    )


def streams(history: History, pieces: list[str], label: str = "u1/m") -> None:
    """Have the first client get these pieces."""
    history.asked[0].body = stream_of(events(pieces, label, (7, 3)))


def breaks(history: History, found: list[Any]) -> None:
    """Have the first client get these events, an error and the end."""
    history.asked[0].body = stream_of([*found, {"error": {"message": "it broke"}}])
    history.lines[0] |= {"tokens_in": None, "tokens_out": None, "error": "ProviderProtocolError"}
    history.samples.append(("mana_llm_streams_broken_total", {}, 1))
    history.samples[2:4] = [
        ("mana_llm_tokens_total", {"type": "input"}, 8),
        ("mana_llm_tokens_total", {"type": "output"}, 2),
    ]


def crosses(history: History) -> None:
    first, second = history.asked[:2]
    first.body, second.body = stream_of(events(OTHERS, "u1/m", (7, 3))), plain_of("".join(PIECES), "u2/m", (8, 2))


def swaps(history: History) -> None:
    first, second = history.asked[:2]
    first.headers, second.headers = second.headers, first.headers


def splices(history: History) -> None:
    """Two providers were asked for the same request, and both are heard."""
    history.called.append(Called("r-0000001", "u2/m", 10, ["<r-0000001 u2 10 0>"] * 3, 3, (10, 3), whole=True))
    history.seen.append(Seen("r-0000001", "u2"))
    streams(history, [PIECES[0], "<r-0000001 u2 10 0>", PIECES[2]])


def ends_twice(history: History) -> None:
    history.asked[0].body += b"data: [DONE]\n\n"


def is_lost(history: History) -> None:
    history.asked[0] = Asked("r-0000001", "stream", "mana/a")


def is_cut(history: History) -> None:
    history.asked[0].whole = False


def counts_twice(history: History) -> None:
    history.lines.append(dict(history.lines[0]))


def is_forgotten(history: History) -> None:
    del history.lines[1]


def names_another(history: History) -> None:
    history.asked[1].headers["x-mana-llm-resolved"] = "u1/m"


def bills_more(history: History) -> None:
    history.lines[0]["tokens_in"] = 8


def tells_other_usage(history: History) -> None:
    history.asked[1].body = plain_of("".join(OTHERS), "u2/m", (9, 2))


def leaves_the_chain(history: History) -> None:
    history.chains = {"v1": {"mana/a": ["u2/m"]}}


def asks_twice(history: History) -> None:
    history.seen.append(Seen("r-0000002", "u2"))


def tells_fewer_attempts(history: History) -> None:
    history.called.append(Called("r-0000002", "u1/m", 11))
    history.seen.append(Seen("r-0000002", "u1"))


def header_differs(history: History) -> None:
    history.asked[1].headers["x-mana-llm-attempts"] = "2"


def invents_a_row(history: History) -> None:
    history.seen = history.seen[:2]


def hides_a_row(history: History) -> None:
    history.seen.append(Seen("r-0000003", "u2"))


def counts_too_many(history: History) -> None:
    history.samples[0] = ("mana_llm_requests_total", {"status": "200"}, 3)


def counts_other_tokens(history: History) -> None:
    history.samples[2] = ("mana_llm_tokens_total", {"type": "input"}, 16)


def breaks_unseen(history: History) -> None:
    history.samples.append(("mana_llm_streams_broken_total", {}, 1))


def answers_unseen(history: History) -> None:
    history.samples[-2] = ("mana_llm_llm_requests_total", {"status": "ok"}, 3)


def nobody_asked(history: History) -> None:
    history.called.append(Called("r-0000009", "u1/m", 12))


SPOILT: list[tuple[Callable[[History], object], str]] = [
    (crosses, "that no call for it gave"),
    (swaps, "the answer is that of r-0000002"),
    (splices, "that no call for it gave"),
    (lambda history: streams(history, [*PIECES[:2], PIECES[1], PIECES[2]]), "that no call for it gave"),
    (lambda history: streams(history, [PIECES[0], PIECES[2]]), "that no call for it gave"),
    (lambda history: streams(history, [PIECES[1], PIECES[0], PIECES[2]]), "that no call for it gave"),
    (lambda history: streams(history, PIECES[:2]), "that no call for it gave"),
    (lambda history: streams(history, PIECES, "u2/m"), "named {'u2/m'}"),
    (lambda history: breaks(history, events(PIECES, "u1/m", (7, 3))[1:2]), "that no call for it gave"),
    (lambda history: breaks(history, [*events(PIECES[:2], "u1/m", (7, 3))[:3]]), "that no call for it gave"),
    (ends_twice, "without its one end"),
    (is_lost, "no answer came"),
    (is_cut, "no whole answer came"),
    (counts_twice, "2 log lines for one request"),
    (is_forgotten, "0 log lines for one request"),
    (names_another, "resolved says u1/m"),
    (bills_more, "the log says (8, 3) tokens"),
    (tells_other_usage, "the client is told (9, 2) tokens"),
    (leaves_the_chain, "which is not in its chain"),
    (asks_twice, "u2 was asked 2 times"),
    (tells_fewer_attempts, "1 attempts are told, 2 providers were asked"),
    (header_differs, "the header says 2 attempts"),
    (invents_a_row, "nothing came by"),
    (hides_a_row, "no row says so"),
    (counts_too_many, "requests are counted"),
    (counts_other_tokens, "input tokens are counted"),
    (breaks_unseen, "broken streams are counted"),
    (answers_unseen, "answers are counted"),
    (nobody_asked, "nobody asked for it"),
]


def shared() -> History:
    """The good one, and two more requests that asked the same: the second got what the first was answered."""
    history = good()
    label, text, tokens = "u1/m", "<r-0000004 u1 12 0>", (12, 1)
    for name, result, attempts in (("r-0000004", "miss", 1), ("r-0000005", "hit", 0)):
        told = head(name, label, "application/json") | {"x-mana-llm-attempts": str(attempts)}
        body = plain_of(text, label, tokens)
        history.asked.append(Asked(name, "plain", "mana/a", 200, told, body, whole=True, says="r-0000004"))
        spent = line(name, label, tokens) if attempts else {**line(name, label, tokens), "tokens_in": None}
        history.lines.append({**spent, "cache": result, "attempts": attempts, "tokens_out": attempts or None})
    history.called.append(Called("r-0000004", label, 12, [text], 1, tokens, whole=True))
    history.seen.append(Seen("r-0000004", "u1"))
    history.samples = [sample for sample in history.samples if "status" in sample[1] and sample[1]["status"] == "503"]
    history.samples += [
        ("mana_llm_requests_total", {"status": "200"}, 4),
        ("mana_llm_tokens_total", {"type": "input"}, 27),
        ("mana_llm_tokens_total", {"type": "output"}, 6),
        ("mana_llm_alias_resolved_total", {"alias": "mana/a", "target": "u1/m"}, 3),
        ("mana_llm_alias_resolved_total", {"alias": "mana/a", "target": "u2/m"}, 1),
        ("mana_llm_llm_requests_total", {"status": "ok"}, 3),
        ("mana_llm_llm_requests_total", {"status": "ProviderServerError"}, 1),
    ]
    return history


def spends_twice(history: History) -> None:
    history.lines[-1] |= {"tokens_in": 12, "tokens_out": 1}


def tries_although_shared(history: History) -> None:
    history.lines[-1]["attempts"] = 1


def calls_twice(history: History) -> None:
    history.seen.append(Seen("r-0000004", "u1"))


def walks_for_one_call(history: History) -> None:
    history.lines[-1]["cache"] = "miss"


def answers_out_of_nowhere(history: History) -> None:
    """A second call, for which nobody walked."""
    history.called.append(Called("r-0000004", "u1/m", 13, ["<r-0000004 u1 13 0>"], 1, (13, 1), whole=True))
    history.asked[-1].body = plain_of("<r-0000004 u1 13 0>", "u1/m", (13, 1))


SPOILT_SHARED: list[tuple[Callable[[History], object], str]] = [
    (spends_twice, "the log says (12, 1) tokens"),
    (tries_although_shared, "attempts are told of a shared answer"),
    (calls_twice, "u1 was asked 2 times for 1 walks"),
    (calls_twice, "1 attempts are told of 2 calls"),
    (walks_for_one_call, "one call is the answer of two walks"),
    (answers_out_of_nowhere, "that nobody walked for"),
]


def test_checker_finds_nothing_when_a_history_is_good():
    """A history without a contradiction has no violation, broken streams and clients that left included."""
    assert violations(good()) == []
    broken = good()
    breaks(broken, events(PIECES, "u1/m", (7, 3))[:2])
    assert violations(broken) == []
    left = good()
    left.asked[2] = Asked("r-0000003", "plain", "mana/a", left=True)
    assert violations(left) == []
    assert violations(shared()) == []


@pytest.mark.parametrize(("spoil", "named"), SPOILT, ids=range(len(SPOILT)))
def test_checker_names_the_violation_when_a_history_is_spoilt(spoil, named):
    """Cross-talk, spliced, doubled, lost and swapped chunks, lost requests, double accounts, wrong names: all found."""
    history = good().copy()
    spoil(history)
    assert any(named in problem for problem in violations(history)), violations(history)


@pytest.mark.parametrize(("spoil", "named"), SPOILT_SHARED, ids=range(len(SPOILT_SHARED)))
def test_checker_names_the_violation_when_sharing_is_spoilt(spoil, named):
    """A shared answer is exactly one call's, that somebody else walked for, and is paid for once."""
    history = shared()
    spoil(history)
    assert any(named in problem for problem in violations(history)), violations(history)
