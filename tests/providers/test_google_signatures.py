"""Thought signatures through the client and back, into a simulator that refuses a call without."""

import json

import pytest

from mana_llm.providers.google.signatures import DUMMY, KEPT_CHARS_MAX, KEPT_MAX, Signatures
from mana_llm.schema.chat import Function, ToolCall
from tests.providers.google_cases import answer, called, function, google, request, result, sent, streamed
from tests.simulator.raw import ask, http, run

MODEL = "gemini-3-flash-preview"
TOOLS = [function("weather", {"type": "object", "properties": {"city": {"type": "string"}}})]
USER = {"role": "user", "content": "How is the weather?"}


def signatures(body):
    return [
        part.get("thoughtSignature")
        for turn in body["contents"]
        for part in turn["parts"]
        if turn["role"] == "model" and "functionCall" in part
    ]


def without_extra(call):
    return {name: member for name, member in call.items() if name != "extra_content"}


def message_of(completion):
    return completion.fields["choices"][0]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("client_keeps", "same_gateway", "expected"),
    [
        (True, False, "c2ltdWxhdGVkLXNpZ25hdHVyZQ=="),
        (False, True, "c2ltdWxhdGVkLXNpZ25hdHVyZQ=="),
        (False, False, DUMMY),
    ],
)
def test_second_step_is_accepted_when_the_signature_takes_any_of_its_ways(stream, client_keeps, same_gateway, expected):
    """Echoed by the client, remembered here, or replaced by the documented word: Gemini 3 takes all three."""

    async def check(simulator):
        provider = google()
        asked = request(stream=stream, messages=[USER], tools=TOOLS, tool_choice="required")
        status, body = await send(simulator, provider.encode_chat(asked, MODEL))
        assert status == 200
        calls = calls_of(provider, asked, body, stream=stream)
        assert calls
        kept = calls if client_keeps else [without_extra(call) for call in calls]
        told = {"role": "assistant", "content": None, "tool_calls": kept}
        messages = [USER, told, *(result(call["id"], "sunny") for call in calls)]
        second = (provider if same_gateway else google()).encode_chat(request(messages=messages, tools=TOOLS), MODEL)
        assert signatures(json.loads(second.body))[0] == expected
        status, body = await send(simulator, second)
        assert status == 200, body
        assert message_of(provider.decode_chat(body, asked))["content"]

    run(check)


async def send(simulator, call):
    status, _, body = await ask(
        simulator, http("POST", call.endpoint.target, json.loads(call.body), "x-goog-api-key: k\r\n")
    )
    return status, body


def calls_of(provider, asked, body, *, stream):
    if not stream:
        return message_of(provider.decode_chat(body, asked))["tool_calls"]
    decoder = provider.open_stream(asked)
    chunks = decoder.feed(body) + decoder.end()
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.choices]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    return [{name: member for name, member in call.items() if name != "index"} for call in calls]


def test_simulator_refuses_the_step_when_no_signature_is_sent():
    """The check above is real: without any signature the same conversation is a 400."""

    async def check(simulator):
        messages = [USER, {"role": "assistant", "tool_calls": [called("a", "weather")]}, result("a")]
        body = sent(MODEL, messages=messages)
        for turn in body["contents"]:
            for part in turn["parts"]:
                part.pop("thoughtSignature", None)
        path = f"/v1beta/models/{MODEL}:generateContent"
        status, _, refused = await ask(simulator, http("POST", path, body, "x-goog-api-key: k\r\n"))
        assert status == 400
        assert b"thought_signature" in refused

    run(check)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-3-pro-preview", [DUMMY, None, DUMMY]),
        ("gemini-3.5-flash-lite", [DUMMY, None, DUMMY]),
        ("gemini-4-argon", [DUMMY, None, DUMMY]),
        ("models/gemini-pro-latest", [DUMMY, None, DUMMY]),
        ("gemini-2.5-flash", [None, None, None]),
        ("gemma-4-27b", [None, None, None]),
        ("something-new", [None, None, None]),
    ],
)
def test_first_call_of_each_step_gets_the_dummy_when_the_model_is_known_to_need_it(model, expected):
    """Only Gemini 3 and later, only the first of parallel calls, every step."""
    step = {"role": "assistant", "tool_calls": [called("a"), called("b")]}
    messages = [USER, step, result("a"), result("b"), {"role": "assistant", "tool_calls": [called("c")]}, result("c")]
    assert signatures(sent(model, messages=messages)) == expected


def extra(signature):
    return {"extra_content": {"google": {"thought_signature": signature}}}


def test_signatures_stay_apart_when_messages_are_merged():
    """Neighbouring answers are one turn in which every part keeps its own signature."""
    messages = [
        USER,
        {"role": "assistant", "content": "one", **extra("AAAA")},
        {"role": "assistant", "content": "two", **extra("BBBB"), "tool_calls": [called("a", **extra("CCCC"))]},
        {"role": "assistant", "tool_calls": [called("b")]},
        result("a"),
        result("b"),
    ]
    turn = sent(messages=messages)["contents"][1]["parts"]
    assert [(part.get("text"), part.get("thoughtSignature")) for part in turn] == [
        ("one", None),
        ("", "AAAA"),
        ("two", None),
        ("", "BBBB"),
        (None, "CCCC"),
        (None, None),
    ]


def test_signature_has_a_part_of_its_own_when_the_answer_had_no_text():
    """It came on an empty text part, and so it goes back."""
    messages = [USER, {"role": "assistant", "content": "", **extra("AAAA")}, USER]
    assert sent(messages=messages)["contents"][1]["parts"] == [{"text": "", "thoughtSignature": "AAAA"}]
    assert len(sent("gemma-4-27b", messages=messages)["contents"]) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("signs_text", [False, True])
def test_text_and_signature_are_two_parts_when_they_come_back(stream, signs_text):
    """Whether the text was signed or an empty part after it, nothing unsigned is joined to the signature."""
    signed = {"thoughtSignature": "AAAA"}
    parts = (
        [{"text": "so"}, {"text": " be it", **signed}] if signs_text else [{"text": "so be it"}, {"text": "", **signed}]
    )
    provider, asked = google(), request(stream=stream)
    if stream:
        chunks = streamed(provider, asked, *(answer(part, reason=None) for part in parts), answer())
        deltas = [choice["delta"] for chunk in chunks for choice in chunk.choices]
        said = {name: delta[name] for delta in deltas for name in ("role", "extra_content") if name in delta}
        said["content"] = "".join(delta.get("content", "") for delta in deltas)
    else:
        said = message_of(provider.decode_chat(answer(*parts), asked))
    turn = sent(messages=[USER, said, USER])["contents"][1]["parts"]
    assert turn == [{"text": "so be it"}, {"text": "", **signed}]


@pytest.mark.parametrize(
    "foreign",
    [
        5,
        None,
        {},
        {"google": 1},
        *({"google": {"thought_signature": text}} for text in ("not base64!", "AA==BB==", "=")),
    ],
)
def test_extra_content_is_no_signature_when_it_is_of_another_kind(foreign):
    """What others put there breaks nothing, and the call gets the dummy."""
    messages = [USER, {"role": "assistant", "tool_calls": [called("a", extra_content=foreign)]}, result("a")]
    assert signatures(sent(messages=messages)) == [DUMMY]


def test_signature_of_a_nameless_answer_is_not_remembered():
    """Without a responseId our made-up id may be another answer's, too, so that nothing is kept under it."""
    signed = {"functionCall": {"name": "f"}, "thoughtSignature": "AAAA"}
    for response_id, expected in (("", DUMMY), ("r", "AAAA")):
        provider = google()
        (call,) = message_of(provider.decode_chat(answer(signed, response_id=response_id), request()))["tool_calls"]
        messages = [USER, {"role": "assistant", "tool_calls": [without_extra(call)]}, result(call["id"])]
        assert signatures(sent(provider=provider, messages=messages)) == [expected]


def test_ids_differ_when_answers_do():
    """Made-up ids are the same plain and streamed, and others in another answer or at another place."""
    part = {"functionCall": {"name": "f"}}
    asked = request()
    calls = message_of(google().decode_chat(answer(part, part), asked))["tool_calls"]
    chunks = streamed(google(), asked, answer(part, part))
    again = [call["id"] for chunk in chunks for call in chunk.choices[0]["delta"].get("tool_calls", [])]
    other = message_of(google().decode_chat(answer(part, response_id="s"), asked))["tool_calls"]
    assert [call["id"] for call in calls] == again
    assert len({*again, other[0]["id"]}) == 3


def test_memory_is_bounded_when_many_calls_are_kept():
    """The oldest calls are forgotten, and absurd signatures never kept."""
    kept = Signatures()
    for number in range(KEPT_MAX + 1):
        kept.keep(str(number), "f", "AAAA")
    kept.keep("long", "f", "A" * (KEPT_CHARS_MAX + 1))

    def of(call_id):
        return kept.of(ToolCall(call_id, function=Function("f")))

    assert (of("0"), of("1"), of(str(KEPT_MAX)), of("long")) == (None, "AAAA", "AAAA", None)
