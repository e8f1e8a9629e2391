"""What an alias may ask for beside its chain: time limits, kinds, and what walks on."""

import re
import timeit
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mana_llm.routing.alias_file import FALLBACK_ERRORS, KEYS
from mana_llm.routing.aliases import AliasConfigError, AliasRegistry
from mana_llm.schema import errors
from mana_llm.schema.errors import ProviderError, RequestError
from mana_llm.schema.targets import DEFAULT_POLICY, Policy

PROVIDERS = {"ollama": "gemma3:4b", "openai": "", "fireworks": "", "deepinfra": ""}
FILE = """\
aliases:
  mana/a:
    chain: [ollama/a, openai/b]
    {line}
default: mana/a
"""
KINDS = """\
aliases:
  mana/chat: {chain: [ollama/gemma3:4b]}
  mana/embed: {kind: embeddings, chain: ["ollama/nomic-embed-text:latest", fireworks/nomic-ai/nomic-embed-text]}
default: mana/chat
"""


def registry(text: str) -> AliasRegistry:
    return AliasRegistry(text, PROVIDERS, "ollama")


def policy(line: str) -> Policy:
    return registry(FILE.format(line=line)).resolve("mana/a").policy


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("description: Nothing else", DEFAULT_POLICY),
        ("kind: chat", DEFAULT_POLICY),
        ("ttft_s: 5", Policy(ttft_s=5.0)),
        ("idle_s: 0.5", Policy(idle_s=0.5)),
        ("total_s: 1e3", Policy(total_s=1000.0)),
        ("hedge_after_s: .25", Policy(hedge_after_s=0.25)),
        ("{ttft_s: 3}", None),
        ("on_incapable: skip", Policy(on_incapable="skip")),
        ("on_incapable: error", DEFAULT_POLICY),
        ("fallback_on: [ProviderAuthError]", Policy(fallback_on=frozenset({"ProviderAuthError"}))),
        (f"fallback_on: [{', '.join(FALLBACK_ERRORS)}]", Policy(fallback_on=frozenset(FALLBACK_ERRORS))),
        ("hedge_after_s: 2\n    ttft_s: 5\n    total_s: 9", Policy(hedge_after_s=2.0, ttft_s=5.0, total_s=9.0)),
    ],
)
def test_policy_is_what_the_file_says_when_it_is_good(line, expected):
    """Each key arrives in the route's policy, as a number of seconds, a word or a set; the rest are the defaults."""
    if expected is None:
        with pytest.raises(AliasConfigError):
            policy(line)
    else:
        assert policy(line) == expected


REJECTED = {
    "ttft_s: 0": "above 0",
    "ttft_s: -1": "above 0",
    "idle_s: .nan": "above 0",
    "idle_s: .inf": "above 0",
    "total_s: 1e999": "above 0",
    "total_s: 86401": "up to 86400",
    "ttft_s: '5'": "'5' will not do",
    "ttft_s: 5 s": "such as 5 or 0.5",
    "ttft_s: 1:30": "'1:30' will not do",
    "ttft_s: 1_000": "'1_000' will not do",
    "ttft_s: 0x10": "'0x10' will not do",
    "ttft_s: true": "'true' will not do",
    "ttft_s:": "mana/a.ttft_s: '' will not do",
    "ttft_s: [5]": "mana/a.ttft_s: this will not do",
    "ttft: 5": "Did you mean ttft_s?",
    "hedge_s: 5": "Did you mean hedge_after_s?",
    "kind: embedings": "Did you mean embeddings?",
    "kind: [chat]": "a text is needed",
    "on_incapable: ignore": "Known: error, skip.",
    "fallback_on: ProviderAuthError": "list at least one of ProviderAuthError",
    "fallback_on: []": "or leave it out",
    "fallback_on: [ProviderAuthEror]": "Did you mean ProviderAuthError?",
    "fallback_on: [ProviderTimeoutError]": "after ProviderTimeoutError the next entry is asked anyway",
    "fallback_on: [ProviderAuthError, ProviderAuthError]": "stands there twice",
    "fallback_on: [GatewayError]": "'GatewayError' is not known here",
    "description: 5": "put it into quotes",
    "description: yes": "put it into quotes",
    "description: ''": "a text is needed",
    "<<: {ttft_s: 5}": "'<<' is not a key here",
}


@pytest.mark.parametrize("line", REJECTED)
def test_policy_is_rejected_with_its_line_and_key_when_it_is_wrong(line):
    """Each wrong value is named with its line, its key, and what would be right."""
    with pytest.raises(AliasConfigError) as caught:
        policy(line)
    message = str(caught.value)
    assert message.startswith("line 4: mana/a")
    assert REJECTED[line] in message


@pytest.mark.parametrize("line", ["ttft_s: 5\n    hedge_after_s: 5", "hedge_after_s: 7\n    total_s: 6.5"])
def test_hedge_is_rejected_when_it_would_never_begin(line):
    """A second entry that is asked only once the first has been left anyway is a mistake, and the message says why."""
    with pytest.raises(AliasConfigError, match=r"mana/a.hedge_after_s: \d is too late: after .* left anyway"):
        policy(line)


def test_errors_that_may_walk_on_are_those_that_end_the_walk_when_counted():
    """`fallback_on` takes every error that usually ends the walk, and no other."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ProviderError)]
    assert sorted(FALLBACK_ERRORS) == sorted(kind.__name__ for kind in kinds if not kind.walks_on)


def test_keys_are_the_policys_own_when_compared():
    """The file has a key for every member of a policy, and two more."""
    assert set(KEYS) == {"description", "chain", *Policy.__struct_fields__}


SAME = [
    ["ollama/nomic-embed-text:latest", "fireworks/nomic-ai/nomic-embed-text"],
    ["ollama/bge-m3:567m", "deepinfra/BAAI/bge-m3"],
    ["ollama/Qwen3-Embedding:8b", "ollama/library/qwen3-embedding:8B-fp16"],
    ["ollama/nomic-embed-text:v1.5", "ollama/nomic-embed-text:137m-v1.5-fp16", "fireworks/nomic-ai/nomic-embed-text"],
    ["ollama/nomic-embed-text:latest", "ollama/nomic-embed-text:v1.5"],
    ["ollama/bge-m3:q4_K_M", "ollama/bge-m3:567m-fp16", "ollama/bge-m3:Q8_0"],
    ["openai/text-embedding-3-small"],
]
OTHERS = [
    ["ollama/nomic-embed-text", "openai/text-embedding-3-small"],
    ["ollama/qwen3-embedding:0.6b", "ollama/qwen3-embedding:8b"],
    ["ollama/qwen3-embedding:0.6b", "deepinfra/qwen3-embedding", "ollama/qwen3-embedding:8b"],
    ["ollama/nomic-embed-text:v1", "ollama/nomic-embed-text:v1.5"],
    ["ollama/nomic-embed-text:v1", "fireworks/nomic-embed-text", "ollama/nomic-embed-text:137m-v1.5-q8_0"],
    ["ollama/all-minilm:l6-v2", "ollama/all-minilm:l12-v2"],
]


def embedding(chain: list[str]) -> str:
    head = "aliases:\n  mana/c: {chain: [ollama/x]}\n  mana/e:\n    kind: embeddings\n    chain:\n"
    return head + "".join(f"      - {entry}\n" for entry in chain) + "default: mana/c\n"


@pytest.mark.parametrize("chain", SAME)
def test_embeddings_alias_is_good_when_its_entries_are_one_model(chain):
    """Provider, vendor, tag and capitals do not make another model."""
    route = registry(embedding(chain)).resolve("mana/e", kind="embeddings")
    assert [target.label for target in route.chain] == chain
    assert route.policy.kind == "embeddings"


@pytest.mark.parametrize("chain", OTHERS)
def test_embeddings_alias_is_rejected_when_vectors_would_mix(chain):
    """Entries of different models, or of different sizes of one, are refused; both are named, with a line."""
    with pytest.raises(AliasConfigError) as caught:
        registry(embedding(chain))
    assert str(caught.value).startswith(f"line {5 + len(chain)}: mana/e.chain: {chain[0]!r} and {chain[-1]!r} ")


def test_default_is_rejected_when_it_is_for_embeddings():
    """A request without a model is given a chat alias, so the default must be one."""
    with pytest.raises(AliasConfigError, match="line 4: default: 'mana/embed' is of kind embeddings"):
        registry(KINDS.replace("default: mana/chat", "default: mana/embed"))


@pytest.mark.parametrize(
    ("model", "kind", "says"),
    [
        ("mana/embed", "chat", "'mana/embed' is for /v1/embeddings. For chat use mana/chat"),
        (
            "mana/chat",
            "embeddings",
            "'mana/chat' is for chat. For embeddings use mana/embed, a model as provider/model",
        ),
        (
            "",
            "embeddings",
            "No model was named, and the default, mana/chat, is for chat. For embeddings use mana/embed",
        ),
    ],
)
def test_alias_is_refused_when_it_serves_another_kind(model, kind, says):
    """The client's 400 says what the alias is for, and what to use instead."""
    with pytest.raises(RequestError) as caught:
        registry(KINDS).resolve(model, kind=kind)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "wrong_alias_kind", "model")
    assert says in error.message


@pytest.mark.parametrize("kind", ["chat", "embeddings"])
def test_kind_changes_nothing_when_the_name_is_no_alias(kind):
    """A direct model serves both; an unknown alias is a 404 for both."""
    aliases = registry(KINDS)
    assert aliases.resolve("openai/text-embedding-3-small", kind=kind).policy is DEFAULT_POLICY
    with pytest.raises(RequestError) as caught:
        aliases.resolve("mana/emb", kind=kind)
    assert caught.value.status == 404
    assert "mana/embed" in caught.value.message


def test_resolving_costs_the_same_when_there_are_ten_thousand_aliases():
    """An alias, a direct model and an unknown alias cost no more among 10,000 than among few; bounds are generous."""

    def unknown(aliases: AliasRegistry) -> None:
        with pytest.raises(RequestError):
            aliases.resolve("mana/nothing-like-it")

    def cost_s(work) -> float:
        return min(timeit.repeat(work, number=200, repeat=9))

    few, many = (
        registry(
            "aliases:\n" + "".join(f"  mana/a{n}: {{chain: [ollama/x]}}\n" for n in range(count)) + "default: mana/a0"
        )
        for count in (60, 10_000)
    )
    for model in ("mana/a59", "", "openai/x"):
        assert cost_s(partial(many.resolve, model)) < 4 * cost_s(partial(few.resolve, model))
    assert cost_s(partial(unknown, many)) < 8 * cost_s(partial(unknown, few))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_file_is_taken_or_rejected_with_a_line_when_it_is_damaged(data):
    """Whatever is cut out of a good file, put in or doubled: it is taken whole, or rejected with a line."""
    text = FILE.format(line="ttft_s: 5\n    fallback_on: [ProviderAuthError]\n    description: A: 'b'")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    odd = st.text(st.sampled_from("\n \t:-[]{}&*!|>'\"%@`,#?\\\x00\x85é/amn0."), max_size=8)
    damaged = text[:start] + data.draw(st.one_of(odd, st.text(max_size=5), st.just(text[start:end] * 2))) + text[end:]
    problem = ""
    try:
        aliases = registry(damaged)
        assert aliases.resolve("").alias == aliases.default
    except AliasConfigError as error:
        problem = str(error)
    assert not problem or re.match(r"line \d+: ", problem)
