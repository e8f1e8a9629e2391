"""What is taken off a structured answer, and that nothing else is."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.kit.fences import HELD_CHARS_MAX, FenceStripper

PIECES = st.lists(
    st.sampled_from(["```", "``", "`", "json", "j", "\n", "\r\n", " ", "{", "}", '"a"', "x"]), max_size=14
)


def stripped(*pieces):
    fences = FenceStripper()
    return "".join(fences.feed(piece) for piece in pieces) + fences.end()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("```\n[1]\n```\n\n", "[1]"),
        ('\n ```JSON\r\n{"a": 1}\r\n```  ', '{"a": 1}'),
        ('```json{"a":1}```', '{"a":1}'),
        ('```json\n{"a": "```\\n"}\n```', '{"a": "```\\n"}'),
        ('```json\n{"a": 1}', '{"a": 1}'),
        ('```json\n{"a": 1}\n``', '{"a": 1}\n``'),
        ("```json\n```", ""),
    ],
)
def test_fence_is_taken_off_when_it_is_around_the_answer(text, kept):
    """The opening fence, marked or not, and the closing one go, and the JSON within stays as it is."""
    assert stripped(text) == stripped(*text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        '{"a": "```json"}',
        '  {"a": 1}\n```\n',
        'Here it is:\n```json\n{"a": 1}\n```',
        "```python\nprint()\n```",
        "```jsonc\n{}\n```",
        "````json\n{}\n````",
        "```json",
        "``",
        "`a`",
        " " * HELD_CHARS_MAX + " ```json\n{}\n```",
    ],
)
def test_text_is_not_touched_when_it_does_not_open_with_a_fence(text):
    """Other text, other fences and what only begins like one pass unchanged, at every split."""
    assert stripped(text) == stripped(*text) == text


@pytest.mark.parametrize("tail", ["\n```\nHope this helps.", "\n````", "\n```" + " " * (HELD_CHARS_MAX + 1)])
def test_closing_fence_stays_when_the_answer_does_not_end_with_it(tail):
    """A fence that something else follows is not the one that closes the answer."""
    assert stripped("```json\n{}" + tail) == stripped(*("```json\n{}" + tail)) == "{}" + tail


def test_text_flows_when_no_fence_can_come_of_it():
    """Nothing is held back once it is certain that it is no fence."""
    fences = FenceStripper()
    assert fences.feed('{"a"') == '{"a"'
    assert fences.feed(":\n") == ":\n"
    fences = FenceStripper()
    assert [fences.feed(piece) for piece in ("```js", 'on\n{"a"', ":\n", "1}", "\n``", "`")] == [
        "",
        '{"a"',
        ":",
        "\n1}",
        "",
        "",
    ]


@given(PIECES, st.integers(1, 5))
@settings(max_examples=400, deadline=None)
def test_text_is_the_same_when_it_is_split_anywhere(pieces, size):
    """Whole, letter by letter, and in pieces of any size, the same comes out."""
    text = "".join(pieces)
    cut = [text[at : at + size] for at in range(0, len(text), size)]
    assert stripped(text) == stripped(*text) == stripped(*cut) == stripped(*pieces)


@given(PIECES)
@settings(max_examples=200, deadline=None)
def test_text_loses_only_backticks_json_and_white_space_when_it_is_stripped(pieces):
    """Whatever comes out stands in what went in, between an opening fence and a closing one or neither."""
    text = "".join(pieces)
    fenced = r"(?:\s*```(?:json)?\s*)?" + re.escape(stripped(text)) + r"(?:\s*```\s*)?"
    assert re.fullmatch(fenced, text)
