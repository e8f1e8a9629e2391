"""Reasoning that must come back with its calls: remembered for clients that lose it, within bounds, and no other's."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.providers import compatible_thoughts
from mana_llm.providers.base_url import base_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.compatible_thoughts import KEPT_BYTES_MAX, KEPT_MAX, ONE_BYTES_MAX, Thoughts, turn_of
from mana_llm.providers.table import ROWS
from mana_llm.providers.toolcalls import synthesised_id
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.wire import encode_json
from tests.recordings import streamed

ASKED = ChatRequest({}, "m", stream=True, include_usage=False)
THOUGHT = 'Ask "f" twice: \u00e9 \U0001f600\n'


def row(name="deepseek"):
    """The provider of a row, with a memory of its own."""
    quirks = next(row.quirks for row in ROWS if row.name == name)
    return Compatible(name, base_of("https://cloud.example/v1"), "key", quirks)


def calls(*ids):
    return [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]


def answered(provider, *ids, **said):
    """Let a whole answer with these calls pass."""
    message = {"role": "assistant", "content": None, "tool_calls": calls(*ids), **said}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    provider.decode_chat(encode_json(body), ASKED)


def sent(provider, *ids, **members):
    """The assistant's turn that goes out when a client replays these calls."""
    message = {"role": "assistant", "content": None, "tool_calls": calls(*ids), **members}
    raw = msgspec.Raw(encode_json([{"role": "user", "content": "Hi"}, message]))
    call = provider.encode_chat(ChatRequest({"messages": raw}, "m", stream=False, include_usage=False), "m")
    return json.loads(call.body)["messages"][1]


@pytest.mark.parametrize("lost", [{}, {"reasoning_content": None}, {"reasoning_content": ""}, {"reasoning": ""}])
@pytest.mark.parametrize("content", [None, "", " ", []])
def test_reasoning_comes_back_when_the_client_lost_it(lost, content):
    """Absent, null or empty, it is put back; and no text at all is the same however a client writes that."""
    provider = row()
    answered(provider, "a", "b", reasoning_content=THOUGHT)
    assert sent(provider, "a", "b", **lost, content=content) == {
        "role": "assistant",
        "content": content,
        "tool_calls": calls("a", "b"),
        "reasoning_content": THOUGHT,
    }


@pytest.mark.parametrize(
    "arguments",
    ['{"a":1,"b":"\u00e9"}', '{ "b": "\\u00e9", "a": 1 }', '{"a": 1, "b": "\u00e9"}'],
    ids=["same", "other", "spaced"],
)
@pytest.mark.parametrize("content", ["Wait.", [{"type": "text", "text": "Wait."}]], ids=["text", "part"])
def test_reasoning_comes_back_when_the_client_writes_the_same_turn_otherwise(arguments, content):
    """Arguments are known by what they say, and a text by its letters."""
    provider = row()
    turn = calls("a")
    turn[0]["function"]["arguments"] = '{"a":1,"b":"\u00e9"}'
    answered(provider, tool_calls=turn, content="Wait.", reasoning_content=THOUGHT)
    replayed = calls("a")
    replayed[0]["function"]["arguments"] = arguments
    assert sent(provider, tool_calls=replayed, content=content)["reasoning_content"] == THOUGHT


@pytest.mark.parametrize(
    "changed",
    [
        {"content": "Another."},
        {"tool_calls": calls("f:0", "f:1")},
        {"tool_calls": [{**calls("f:0")[0], "function": {"name": "g", "arguments": "{}"}}]},
        {"tool_calls": [{**calls("f:0")[0], "function": {"name": "f", "arguments": '{"city": "Oslo"}'}}]},
    ],
    ids=["text", "calls", "name", "arguments"],
)
def test_reasoning_is_told_to_nobody_else_when_ids_are_the_same(changed):
    """A server that numbers its calls anew gives two conversations one id: only the whole turn is proof enough."""
    provider = row()
    answered(provider, "f:0", content="Said.", reasoning_content=THOUGHT)
    assert sent(provider, "f:0", content="Said.")["reasoning_content"] == THOUGHT
    assert "reasoning_content" not in sent(provider, "f:0", **{"content": "Said.", **changed})


def test_reasoning_is_the_clients_when_it_sends_any():
    """What a client says of its own, in either spelling, is never replaced."""
    provider = row()
    answered(provider, "a", reasoning_content=THOUGHT)
    for member in ("reasoning", "reasoning_content"):
        assert sent(provider, "a", **{member: "mine"})["reasoning_content"] == "mine"


def test_turn_goes_as_it_came_when_its_calls_are_not_known():
    """Where nothing is remembered the server judges; and another installation's provider remembers nothing."""
    provider = row()
    answered(provider, "a", reasoning_content=THOUGHT)
    assert "reasoning_content" not in sent(provider, "z")
    assert "reasoning_content" not in sent(row(), "a")


@pytest.mark.parametrize("name", [row.name for row in ROWS if not row.quirks.wants_thoughts])
def test_nothing_is_remembered_when_the_row_does_not_ask_for_it(name):
    """Only servers that insist on their reasoning, and whose ids are random, get it back from here."""
    provider = row(name)
    answered(provider, "a", reasoning_content=THOUGHT)
    assert sent(provider, "a").keys() == {"role", "content", "tool_calls"}


def in_pieces(index, call, arguments):
    """A call as a stream tells it: its head, then its arguments piece by piece."""
    yield {"tool_calls": [{"index": index, **call, "function": {**call["function"], "arguments": ""}}]}
    for piece in arguments:
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6), st.booleans())
def test_streamed_reasoning_comes_back_when_the_client_lost_it(pieces, escaped):
    """The pieces of a stream are one text again, whichever way they are written."""
    provider = row()
    deltas = [{"content": None, "reasoning_content": piece} for piece in pieces]
    deltas += [{"content": piece} for piece in pieces]
    deltas += [*in_pieces(0, calls("a")[0], "{}"), *in_pieces(1, calls("b")[0], ["{}"])]
    events = [{"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    body = b"".join(b"data: %b\n\n" % json.dumps(event, ensure_ascii=escaped).encode() for event in events)
    _, (done, *_) = streamed(provider.open_stream(ASKED), [body, b"data: [DONE]\n\n"])
    assert done
    said = "".join(pieces)
    assert sent(provider, "a", "b", content=said).get("reasoning_content", "") == said


def test_streamed_reasoning_is_not_kept_when_the_answer_broke():
    """A turn that never finished is none that a client can replay."""
    provider = row()
    delta = {"reasoning_content": THOUGHT, "tool_calls": [{"index": 0, **calls("a")[0]}]}
    event = encode_json({"id": "c", "choices": [{"index": 0, "delta": delta}]})
    streamed(provider.open_stream(ASKED), [b"data: %b\n\n" % event])
    assert "reasoning_content" not in sent(provider, "a")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40)), max_size=30))
def test_memory_is_bounded_when_anything_is_kept(kept):
    """At most so many texts and so many bytes, the newest being there and the count of bytes being right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compatible_thoughts, "KEPT_MAX", 3)
        patch.setattr(compatible_thoughts, "KEPT_BYTES_MAX", 60)
        thoughts = Thoughts()
        for turn, size in kept:
            thoughts.keep(turn.encode(), b"x" * size)
            assert bytes(thoughts.of(turn.encode())) == b"x" * size
            sizes = [len(bytes(found)) for one in "abcdef" if (found := thoughts.of(one.encode())) is not None]
            assert len(sizes) <= 3
            assert sum(sizes) == thoughts._bytes <= 60


def test_reasoning_is_not_kept_when_it_is_absurd_or_its_ids_are_ours():
    """One text has a bound of its own, and ids that are made here tell no conversations apart."""
    thoughts = Thoughts()
    thoughts.keep(b"a", b"x" * (ONE_BYTES_MAX + 1))
    assert thoughts.of(b"a") is None
    assert turn_of({"tool_calls": calls(synthesised_id("null 0 0"))}) is None
    assert turn_of({"tool_calls": [{"function": {"name": "f"}}]}) is None
    assert (KEPT_MAX, KEPT_BYTES_MAX) == (10_000, 32 * 1024 * 1024)
