"""What is asked of a model before a request is sent to it, how it is judged, and when a prompt was cut."""

import json

import pytest

from mana_llm.providers.ollama.abilities import Facts
from mana_llm.schema import errors
from tests.providers.ollama_world import ASKED, TIME, line, ollama, request, says

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
NEEDS = {
    "tools": {"tools": [TIME]},
    "vision": {"messages": [{"role": "user", "content": [IMAGE]}]},
    "audio": {"messages": [{"role": "user", "content": [AUDIO]}]},
    "thinking": {"reasoning_effort": "low"},
}
PROSE = "The quick brown fox jumps over the lazy dog, as every typist knows well. "


def judged(need, model, facts=None):
    ollama().judge(request(**NEEDS[need]), model, (facts,))


def shown(*capabilities):
    return json.dumps({"capabilities": capabilities}).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": []},
        {"tools": [TIME], "tool_choice": "none"},
        {"reasoning_effort": "none"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
    ],
)
def test_nothing_is_asked_when_the_request_is_only_text(fields):
    """A request that any model can serve costs no question."""
    assert not ollama().questions(request(**fields), "m")


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("stream", [False, True])
def test_show_is_asked_when_not_every_model_can(need, stream):
    """Tools, images, sounds and thinking ask /api/show about the model, plain and streamed."""
    call = ollama().questions(request(stream, **NEEDS[need]), "m:1b")[0].call
    assert (call.endpoint.method, call.endpoint.target) == ("POST", "/api/show")
    assert json.loads(call.body) == {"model": "m:1b"}


@pytest.mark.parametrize("need", NEEDS)
def test_capabilities_decide_when_the_server_tells_them(need):
    """What the server lists goes before any name."""
    judged(need, "unheard-of", shown("completion", need))
    with pytest.raises(errors.ProviderCapabilityError) as caught:
        judged(need, "llama4:scout", shown("completion"))
    assert "'llama4:scout'" in caught.value.message
    assert "Choose one that can" in caught.value.message
    assert (caught.value.status, caught.value.walks_on) == (400, False)


@pytest.mark.parametrize("facts", [None, b"", b"<html>", b"[]", b"{}", b'{"capabilities":null}', b'{"capabilities":5}'])
def test_name_decides_when_the_server_tells_nothing(facts):
    """Without capabilities the pattern list is the judge."""
    judged("tools", "qwen2.5:7b", facts)
    with pytest.raises(errors.ProviderCapabilityError):
        judged("tools", "gemma3:4b", facts)


TOOLS = """
    llama3.1 llama3.2:3b llama3.3:70b llama4:scout qwen2.5:7b qwen2.5-coder:7b qwen3:8b qwen3.5:9b mistral mixtral:8x7b
    mistral-nemo mistral-small3.1 command-r command-r-plus firefunction-v2 hermes3 granite3.3:8b gpt-oss:20b
    deepseek-v3.1:671b smollm2:1.7b nemotron-mini user/qwen3:8b hf.co/bartowski/Llama-3.2-3B-GGUF Qwen3:8B
    hf.co/bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M
"""
NO_TOOLS = """
    llama2 llama3:8b llama3.2-vision gemma3:4b gemma2 phi3 llava qwen2.5vl:7b deepseek-r1:8b codellama tinyllama
"""
VISION = """
    llava:7b llava-phi3 bakllava llama3.2-vision:11b llama4 gemma3:4b gemma3 gemma3:12b-it-qat qwen2.5vl:7b qwen2.5-vl
    qwen3-vl:8b minicpm-v moondream mistral-small3.1 mistral-small3.2:24b
"""
NO_VISION = "gemma3:1b gemma3:270m gemma3n:e4b llama3.2 qwen2.5:7b qwen3:8b mistral gpt-oss:20b"
THINKING = "qwen3:8b deepseek-r1:8b gpt-oss:20b magistral qwq deepseek-v3.1"
NO_THINKING = "qwen2.5:7b gemma3:4b llama3.3 mistral qwen3-coder:30b"


@pytest.mark.parametrize(
    ("need", "able", "unable"),
    [
        ("tools", TOOLS, NO_TOOLS),
        ("vision", VISION, NO_VISION),
        ("thinking", THINKING, NO_THINKING),
        ("audio", "gemma4:e4b gemma4:e2b", "gemma4:31b gemma3:4b qwen3:8b"),
    ],
)
def test_families_are_told_apart_when_only_the_name_is_known(need, able, unable):
    """The pattern list knows the families of Ollama's library, whoever published the copy."""
    for model in able.split():
        judged(need, model)
    for model in unable.split():
        with pytest.raises(errors.ProviderCapabilityError):
            judged(need, model)


def prompt_cut(messages, count, provider=None):
    provider = provider or ollama()
    last = line(done=True, done_reason="stop", message={"content": "a"}, prompt_eval_count=count)
    asked = request(messages=messages)
    decoder = provider.open_stream(asked)
    decoder.feed(says(content="b"))
    assert decoder.prompt_cut is False
    decoder.feed(last)
    assert decoder.done
    cut = provider.decode_chat(last, asked).prompt_cut
    assert decoder.prompt_cut is cut
    return cut


@pytest.mark.parametrize(
    ("characters", "count", "cut"),
    [
        (16_000, 4_000, False),
        (30_000, 4_096, False),
        (31_000, 4_096, True),
        (40_000, 4_096, True),
        (20_000, 30, True),
        (15_000, 30, False),
        (40_000, None, False),
        (40_000, 0, False),
        (40_000, -5, False),
    ],
)
def test_prompt_was_cut_when_fewer_tokens_were_read_than_it_can_have(characters, count, cut):
    """More than 7.5 characters to a token, in a prompt that fills the smallest context, is a cut prompt."""
    words = (PROSE * 1000)[:characters]
    half = [{"type": "text", "text": words[: characters // 2]}, {"type": "text", "text": words[characters // 2 :]}]
    assert prompt_cut([{"role": "user", "content": words}], count) is cut
    assert prompt_cut([{"role": "user", "content": half}], count) is cut
    assert prompt_cut([{"role": "system", "content": words}, *ASKED], count) is cut


@pytest.mark.parametrize("filler", [" ", "\n", "-", "="])
def test_prompt_is_whole_when_it_is_long_for_its_white_space(filler):
    """Runs of white space and rules are few tokens, and count as one character."""
    assert prompt_cut([{"role": "user", "content": "a" + filler * 60_000}], 900) is False


def test_prompt_was_cut_when_it_fills_the_context_that_is_known():
    """Where the server told the context, a prompt that fills it has left no room: it was cut."""
    provider = ollama()
    facts = {"capabilities": ["tools"], "model_info": {"x.context_length": 512}}
    provider.judge(request(tools=[TIME]), "m", (json.dumps(facts).encode(),))
    assert prompt_cut(ASKED, 512, provider)
    assert not prompt_cut(ASKED, 511, provider)
    assert not prompt_cut(ASKED, 512)


@pytest.mark.parametrize(
    ("facts", "tokens"),
    [
        ({}, None),
        ({"model_info": {"x.context_length": 8192, "x.rope.scaling.original_context_length": 4}}, 8192),
        ({"model_info": {"x.context_length": "8192"}}, None),
        ({"model_info": {"x.context_length": 8192}, "parameters": 'stop "a"\nnum_ctx                 4096'}, 4096),
        ({"model_info": {"x.context_length": 8192}, "parameters": "num_ctx 100000"}, 8192),
        ({"parameters": "num_ctx 4096"}, 4096),
    ],
)
def test_context_is_the_smaller_one_when_the_model_has_a_setting(facts, tokens):
    """A model's own window, or a smaller one that its file sets."""
    assert Facts(**facts).context_tokens == tokens
