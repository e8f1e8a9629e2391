"""Structured answers of Ollama: what is asked for, and what is taken off the answer."""

import json

import pytest

from tests.providers.ollama_world import called, line, ollama, request, says, sent, whole

SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "number"}}}
OBJECT = {"type": "json_object"}
DONE = line(done=True, done_reason="stop", message={"content": ""}, eval_count=1)


def test_format_is_what_was_asked_when_the_answer_is_structured():
    """A schema goes as it came, references included; an object without one is `json`; text is nothing."""
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}
    assert sent(response_format=asked)["format"] == SCHEMA
    assert sent(response_format={"type": "json_schema", "json_schema": {"name": "x"}})["format"] == "json"
    assert sent(response_format=OBJECT)["format"] == "json"
    assert "format" not in sent(response_format={"type": "text"})


def test_description_is_named_as_ignored_when_a_schema_has_one():
    """Ollama sees the schema alone."""
    asked = {"type": "json_schema", "json_schema": {"name": "x", "description": "d", "schema": SCHEMA}}
    assert called(response_format=asked).ignored == ("response_format.json_schema.description",)


@pytest.mark.parametrize(
    ("fields", "kept"), [({"response_format": OBJECT}, '{"a": 1}'), ({}, '```json\n{"a": 1}\n```')]
)
def test_fences_go_when_and_only_when_the_answer_is_structured(fields, kept):
    """Plain and streamed, wherever the lines split; an ordinary answer keeps its fences."""
    said = '```json\n{"a": 1}\n```'
    answer = ollama().decode_chat(whole(content=said), request(**fields))
    assert answer.fields["choices"][0]["message"]["content"] == kept
    for size in (1, 2, 5, 100):
        lines = [says(content=said[at : at + size]) for at in range(0, len(said), size)]
        decoder = ollama().open_stream(request(stream=True, **fields))
        chunks = decoder.feed(b"".join(lines) + DONE)
        deltas = [chunk.choices[0]["delta"] for chunk in chunks]
        assert "".join(delta.get("content", "") for delta in deltas) == kept
        assert [chunk.has_content for chunk in chunks] == ["content" in delta for delta in deltas]
        assert (decoder.done, deltas[0]["role"]) == (True, "assistant")
        assert chunks[-1].finished


def test_held_text_is_said_when_the_stream_ends_with_it():
    """What might have become a fence is said with the finish if it did not."""
    decoder = ollama().open_stream(request(stream=True, response_format=OBJECT))
    chunks = decoder.feed(says(content="```json\n{}\n``") + DONE)
    assert [chunk.choices[0]["delta"].get("content") for chunk in chunks] == ["{}", "\n``"]
    assert (chunks[-1].finished, chunks[-1].has_content) == (True, True)


def test_structure_stays_json_when_the_model_thinks_and_calls():
    """Reasoning and calls beside a structured answer are not touched."""
    call = {"function": {"name": "f", "arguments": {"x": "```"}}}
    body = whole(content="```\n{}\n```", thinking="```json", tool_calls=[call])
    (choice,) = ollama().decode_chat(body, request(response_format=OBJECT)).fields["choices"]
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("{}", "```json")
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"x": "```"}
    assert choice["finish_reason"] == "tool_calls"
