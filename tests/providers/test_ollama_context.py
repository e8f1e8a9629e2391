"""What is asked about a model's context, which context counts, and when a prompt is known to be cut."""

import json

import pytest

from mana_llm.providers.ollama import LOADED_FRESH_S, SHOWN_FRESH_S
from tests.providers.ollama_world import ASKED, TIME, line, ollama, request, says

PROSE = "The quick brown fox jumps over the lazy dog, as every typist knows well. "
LONG = [{"role": "user", "content": (PROSE * 1000)[:40_000]}]
LINK = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.test/b.png"}}]}]


def targets(asked):
    return [question.call.endpoint.target for question in ollama().questions(asked, "m")]


def shown(context=None, num_ctx=None):
    told = {"model_info": {"x.context_length": context}} if context else {}
    return json.dumps({**told, "parameters": f"num_ctx {num_ctx}" if num_ctx else ""}).encode()


def running(**lengths):
    return json.dumps({"models": [{"name": name, "context_length": at} for name, at in lengths.items()]}).encode()


def told(*facts, model="m"):
    """A provider that was told `facts` of a model: /api/show first, then /api/ps."""
    provider = ollama()
    provider.judge(request(messages=LONG), model, facts)
    return provider


def finished(provider, messages, count, model="m"):
    """Whether the prompt was cut, once the answer is whole: the same for plain answers and streams."""
    last = line(done=True, done_reason="stop", message={"content": "a"}, prompt_eval_count=count, model=model)
    asked = request(messages=messages)
    decoder = provider.open_stream(asked, model)
    decoder.feed(says(content="b"))
    decoder.feed(last)
    assert decoder.done
    assert decoder.prompt_cut is provider.decode_chat(last, asked).prompt_cut
    return decoder.prompt_cut


def begun(provider, messages=LONG, model="m"):
    """Whether a stream knows of the cut before its first byte."""
    return provider.open_stream(request(messages=messages), model).prompt_cut


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, []),
        ({"messages": [{"role": "user", "content": "a" * 1_900}]}, []),
        ({"tools": [TIME]}, ["/api/show"]),
        ({"messages": [{"role": "user", "content": "a" * 2_100}]}, ["/api/show", "/api/ps"]),
        ({"tools": [{**TIME, "about": "a" * 2_100}]}, ["/api/show", "/api/ps"]),
        ({"messages": LINK}, ["/api/show", "/api/ps"]),
    ],
)
def test_context_is_asked_only_when_the_prompt_can_be_cut(fields, asked):
    """No token is less than a byte: a prompt of 2,048 bytes fits every default context, and costs no question."""
    assert targets(request(**fields)) == asked


def test_answers_are_believed_as_long_as_they_hold_when_they_are_asked_for():
    """What a model can do holds for minutes, what is loaded only for seconds, and only the first must be known."""
    able, loaded = ollama().questions(request(messages=LONG, tools=[TIME]), "m")
    assert (able.fresh_s, able.needed) == (SHOWN_FRESH_S, True)
    assert (loaded.fresh_s, loaded.needed) == (LOADED_FRESH_S, False)
    assert not ollama().questions(request(messages=LONG), "m")[0].needed


@pytest.mark.parametrize(
    ("facts", "window"),
    [
        ((shown(131_072), running(m=4_096)), 4_096),
        ((shown(131_072), running(**{"m:latest": 4_096})), 4_096),
        ((shown(131_072), running(**{"m:1b": 4_096, "n": 4_000})), 131_072),
        ((shown(131_072), None), 131_072),
        ((None, running(m=4_096)), 4_096),
        ((shown(131_072, 8_192), running(m=4_096)), 8_192),
        ((shown(4_096, 8_192), None), 4_096),
    ],
)
def test_window_is_the_one_in_force_when_several_are_told(facts, window):
    """What the model's file sets goes before what is loaded, as it is set anew; its maximum bounds them all."""
    provider = told(*facts)
    assert finished(provider, ASKED, window)
    assert not finished(provider, ASKED, window - 1)


@pytest.mark.parametrize("facts", [b"", b"<html>", b"[]", b"{}", b'{"models":null}', b'{"models":[{"name":5}]}'])
def test_nothing_is_known_when_the_list_of_loaded_models_cannot_be_read(facts):
    """An answer that is no list of models claims nothing."""
    provider = told(None, facts)
    assert not finished(provider, ASKED, 4_096)
    assert not begun(provider)


def test_window_stays_known_when_the_model_is_unloaded():
    """A model that is loaded again is loaded with the context it had."""
    provider = told(shown(131_072), running(m=4_096))
    provider.judge(request(messages=LONG), "m", (shown(131_072), running()))
    assert finished(provider, ASKED, 4_096)


@pytest.mark.parametrize(
    ("asked", "listed", "answered"),
    [
        ("llama3.2", "llama3.2:latest", "llama3.2:latest"),
        ("llama3.2:latest", "llama3.2", "llama3.2"),
        ("hf.co/a/Llama-GGUF", "hf.co/a/Llama-GGUF:latest", "hf.co/a/llama-gguf"),
        ("registry.ollama.ai/library/llama3.2", "llama3.2:latest", "llama3.2"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b"),
    ],
)
def test_model_is_one_when_it_has_several_names(asked, listed, answered):
    """The default tag and the default registry may stand or not, in any letter case."""
    provider = told(shown(131_072), running(**{listed: 4_096}), model=asked)
    assert finished(provider, ASKED, 4_096, answered)
    assert begun(provider, model=answered)


@pytest.mark.parametrize(("characters", "cut"), [(30_000, False), (31_000, True)])
def test_stream_knows_at_its_beginning_when_the_text_cannot_fit(characters, cut):
    """More than 7.5 characters for every token of the context: certain before anything is answered."""
    provider = told(shown(131_072), running(m=4_096))
    assert begun(provider, [{"role": "user", "content": (PROSE * 1000)[:characters]}]) is cut
    assert not begun(ollama())


def test_beginning_is_corrected_when_more_was_read_than_the_context_had():
    """A count above the context shows that another one was in force: the model had been loaded anew."""
    provider = told(shown(131_072), running(m=4_096))
    assert begun(provider)
    assert not finished(provider, LONG, 9_000)
    assert finished(provider, LONG, 4_000)


def test_small_context_is_noticed_when_it_is_known():
    """A context below every default is believed: few characters are too many for it."""
    provider = told(shown(131_072), running(m=512))
    words = [{"role": "user", "content": (PROSE * 100)[:5_000]}]
    assert begun(provider, words)
    assert finished(provider, words, 500)
    assert not finished(ollama(), words, 500)
