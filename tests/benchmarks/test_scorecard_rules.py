"""The rules of the scorecard one by one, and how it reads what a gateway says."""

import dataclasses

import pytest

from benchmarks.faults.asking import Door
from benchmarks.faults.judge import Terms, judge, saw_words
from benchmarks.faults.rows import Row
from benchmarks.faults.seen import Reader, Seen
from benchmarks.faults.upstreams import FIRST_TEXT, SECOND_TEXT

TERMS = Terms(first_token_s=2.0, idle_s=3.0, failover_s=2.0, slack_s=1.0)
WHOLE = Seen(
    status=200, text=SECOND_TEXT, finishes=["stop"], done=True, tidy=True, ended="complete", first_s=0.1, last_s=0.1
)
TOLD = dataclasses.replace(
    WHOLE, text=FIRST_TEXT[:20], finishes=[], errors=["broken"], first_s=0.1, last_s=0.2, error_s=0.3
)
FALLBACK = Row("stream cut", "stream", "fallback")
BREAK = Row("stream cut", "stream", "told", after_content=True)
SILENCE = Row("silent upstream", "stream", "fallback", wait="first token")
STALL = Row("stall", "stream", "told", wait="silence", after_content=True)


def but(seen: Seen, **changes) -> Seen:
    return dataclasses.replace(seen, **changes)


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        (FALLBACK, WHOLE),
        (FALLBACK, but(WHOLE, first_s=1.9)),
        (SILENCE, but(WHOLE, first_s=2.9)),
        (BREAK, TOLD),
        # Kept back until the break, so that the client was given the whole other answer.
        (BREAK, WHOLE),
        (STALL, but(TOLD, error_s=4.1)),
        (Row("", "plain", "fallback"), but(WHOLE, done=False, tidy=False)),
        (Row("", "plain", "empty"), but(WHOLE, text="", tidy=False)),
        (Row("", "stream", "blocked"), Seen(status=422, errors=["content_filter"], ended="complete")),
        (Row("", "stream", "filtered"), but(TOLD, errors=[], error_s=-1.0, finishes=["content_filter"])),
        (Row("", "stream", "answer"), but(WHOLE, text=FIRST_TEXT)),
    ],
)
def test_answer_is_right_when_it_is_what_was_due(row, seen):
    """Each thing that can be due is recognised."""
    assert judge(row, seen, TERMS) == ""


@pytest.mark.parametrize(
    ("row", "seen", "reason"),
    [
        (FALLBACK, but(WHOLE, ended="hung", end_s=5.0), "hung: no end within 5.0 s"),
        (FALLBACK, Seen(), "the connection ended without an answer"),
        (FALLBACK, but(WHOLE, ended="cut"), "the connection was cut within the answer"),
        (FALLBACK, but(WHOLE, text="<first 0><second 0>"), "spliced: words of both upstreams"),
        (FALLBACK, but(WHOLE, junk=1), "passed on what is no JSON"),
        (FALLBACK, but(WHOLE, text=SECOND_TEXT[:-3]), "not the answer that was due but 119 characters"),
        (FALLBACK, but(WHOLE, finishes=[]), "finish reasons [], not stop"),
        (FALLBACK, but(WHOLE, tidy=False), "no [DONE] at the end"),
        (FALLBACK, but(WHOLE, first_s=2.1), "late: 2.10 s, at most 2 s"),
        (SILENCE, but(WHOLE, first_s=3.1), "late: 3.10 s, at most 3 s"),
        (FALLBACK, Seen(status=503, errors=["x"], ended="complete"), "an error (x) where an answer was due"),
        (BREAK, but(TOLD, errors=[]), "silent about the break: no error event"),
        (BREAK, but(TOLD, errors=["a", "b"]), "2 error events"),
        (BREAK, but(TOLD, finishes=["stop"]), "an invented finish: stop"),
        (BREAK, but(TOLD, tidy=False), "the error event is not followed by [DONE] alone"),
        (BREAK, but(TOLD, error_s=2.5), "late: 2.30 s, at most 2 s"),
        (STALL, but(TOLD, error_s=4.3), "late: 4.10 s, at most 4 s"),
        (Row("", "plain", "empty"), WHOLE, "122 characters of the second's: a clean empty answer is an answer"),
        (Row("", "plain", "blocked"), WHOLE, "status 200 and 122 characters of the second's: a content filter is"),
        (Row("", "stream", "filtered"), but(TOLD, finishes=["stop"]), "an error or 20 characters"),
    ],
)
def test_answer_is_wrong_when_it_is_something_else(row, seen, reason):
    """Each rule can be broken, and says how."""
    assert judge(row, seen, TERMS).startswith(reason)


def read(data: bytes, kind: str = "text/event-stream") -> list[Seen]:
    """What was seen of a body, split at every byte and whole."""
    found = []
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        seen = Seen()
        reader = Reader(seen)
        reader.head(200, kind)
        for piece in pieces:
            reader.feed(piece, 1.0)
        reader.end(2.0)
        found.append(seen)
    return found


CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"<first 0>"},"finish_reason":null}]}\n\n'
ERROR = b'event: error\r\ndata:{"error":{"code":null,"type":"broken"}}\r\n\r\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("data", "tidy", "junk"),
    [
        (b": hello\n\n" + CHUNK + DONE, True, 0),
        (CHUNK + b"data: [DONE]", True, 0),
        (CHUNK + ERROR + DONE, True, 0),
        (CHUNK + ERROR + CHUNK + DONE, False, 0),
        (CHUNK + ERROR, False, 0),
        (CHUNK + DONE + CHUNK, False, 0),
        (CHUNK + DONE + DONE, False, 0),
        (CHUNK + CHUNK[:30], False, 1),
        (CHUNK + b"data: nonsense\n\n" + DONE, True, 1),
        (b"", False, 0),
    ],
)
def test_stream_is_read_alike_when_it_is_split_anywhere(data, tidy, junk):
    """Order, junk and the end marker are seen whatever the pieces are."""
    for seen in read(data):
        assert (seen.tidy, seen.junk) == (tidy, junk)
        assert seen.text == "<first 0>" * data.count(CHUNK)
        assert seen.errors == ["broken"] * data.count(ERROR)


def test_message_is_read_when_the_answer_is_plain():
    """Text and finish of a whole answer, and junk for a page."""
    (seen, _) = read(b'{"choices":[{"message":{"content":"<first 0>"},"finish_reason":"stop"}]}', "application/json")
    assert (seen.text, seen.finishes, seen.junk) == ("<first 0>", ["stop"], 0)
    assert read(b"<html>", "text/html")[0].junk == 1


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://gateway:4000", "gateway", 4000, "/v1/chat/completions"),
        ("http://gateway:4000/v1/", "gateway", 4000, "/v1/chat/completions"),
        ("https://gateway/api/openai", "gateway", 443, "/api/openai/chat/completions"),
    ],
)
def test_door_is_found_when_a_base_url_is_given(url, host, port, path):
    """A base URL is what an OpenAI client is given; without a path it is /v1."""
    door = Door.at(url, "key", "card")
    assert (door.host, door.port, door.path, door.tls) == (host, port, path, url.startswith("https"))


def test_words_are_few_when_an_answer_is_told():
    """What was seen, in a few words."""
    assert saw_words(TOLD) == "200, first's beginning, error broken, [DONE]"
    assert saw_words(WHOLE) == "200, second's answer, [DONE]"
