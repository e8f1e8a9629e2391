"""What breaks between a local model and a cloud: ceilings, ids of calls, limits as instants, errors without a frame."""

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mana_llm.providers.base_url import base_of
from mana_llm.providers.compatible import Compatible
from mana_llm.providers.compatible_quirks import Quirks
from mana_llm.providers.failures import retry_after_s
from mana_llm.providers.failures.resets import reset_after_s
from mana_llm.providers.table import ROWS
from mana_llm.schema.chat import ChatRequest
from mana_llm.schema.errors import (
    ProviderAuthError,
    ProviderBlockedError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderServerError,
)
from mana_llm.schema.wire import encode_json
from tests.recordings import streamed

ASKED = ChatRequest({}, "m", stream=True, include_usage=False)
DATE = "Fri, 20 Nov 2026 10:00:00 GMT"
DATE_S = 1_795_168_800
NINE_CHARS = re.compile("[a-zA-Z0-9]{9}")
NINE = st.from_regex(NINE_CHARS, fullmatch=True)


def row(name):
    """The provider of a row."""
    quirks = next(row.quirks for row in ROWS if row.name == name)
    return Compatible(name, base_of("https://cloud.example/v1"), "key", quirks)


def sent(name, model="m", messages=(), **fields):
    """The body that goes out."""
    raw = {member: msgspec.Raw(encode_json(value)) for member, value in {"messages": messages, **fields}.items()}
    return json.loads(row(name).encode_chat(ChatRequest(raw, "m", stream=False, include_usage=False), model).body)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5-nano", "max_completion_tokens"),
        ("gpt-5.4-mini", "max_completion_tokens"),
        ("gpt-6-luna", "max_completion_tokens"),
        ("o4-mini", "max_completion_tokens"),
        ("ft:gpt-5-mini:me::1", "max_completion_tokens"),
        ("gpt-4o-mini", "max_tokens"),
        ("gpt-oss-120b", "max_tokens"),
        ("gpt-35-turbo", "max_tokens"),
        ("my-gpt-5", "max_tokens"),
    ],
)
def test_ceiling_has_the_newer_name_when_the_model_refuses_the_old_one(model, name):
    """OpenAI's reasoning models answer 400 to `max_tokens` (recorded); any other model or server gets what came."""
    assert sent("openai", model, max_tokens=5) == {"messages": [], "model": model, name: 5}
    assert sent("openai", model, max_completion_tokens=5)["max_completion_tokens"] == 5


def test_ceiling_is_the_newer_one_when_a_client_gives_both():
    """As it is for every other provider."""
    body = sent("openai", "gpt-5-nano", max_tokens=5, max_completion_tokens=9)
    assert body == {"messages": [], "model": "gpt-5-nano", "max_completion_tokens": 9}


def turns(*ids):
    """An assistant's calls and their results."""
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": one, "type": "function", "function": function} for one in ids]
    results = [{"role": "tool", "tool_call_id": one, "content": "r"} for one in ids]
    return [{"role": "assistant", "content": "", "tool_calls": calls}, *results]


@given(st.lists(st.text(min_size=1, max_size=40) | NINE, min_size=1, max_size=4, unique=True))
def test_ids_of_calls_are_mistrals_when_another_provider_made_them(ids):
    """Nine letters and digits, the same for a call and its result, its own ones unchanged and no two made one."""
    messages = turns(*ids)
    written = sent("mistral", messages=messages)["messages"]
    made = [call["id"] for call in written[0]["tool_calls"]]
    assert made == [result["tool_call_id"] for result in written[1:]]
    assert all(len(one) == 9 and one.isascii() and one.isalnum() for one in made)
    assert all(one == old for one, old in zip(made, ids, strict=True) if NINE_CHARS.fullmatch(old))
    assert len(set(made)) == len(ids)
    assert sent("groq", messages=messages)["messages"] == messages


@pytest.mark.parametrize("name", ["groq", "mistral"])
def test_answer_can_be_replayed_when_it_has_members_of_other_servers(name):
    """What clients keep of an answer of ours or OpenAI's and send back is no 400 there; a refusal stays as text."""
    said = {"role": "assistant", "content": "a", "refusal": None, "annotations": [], "images": [], "name": None}
    refused = {"role": "assistant", "content": None, "refusal": "No.", "annotations": [{"type": "url_citation"}]}
    messages = [said, refused]
    raw = {"messages": msgspec.Raw(encode_json(messages))}
    call = row(name).encode_chat(ChatRequest(raw, "m", stream=False, include_usage=False), "m")
    assert json.loads(call.body)["messages"] == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "No."},
    ]
    assert call.ignored == ("messages.annotations",)
    assert sent("openai", messages=messages)["messages"] == messages


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x-ratelimit-reset": str((DATE_S + 7) * 1000), "date": DATE}, 7.0),
        ({"x-ratelimit-reset": str(DATE_S + 7), "date": DATE}, 7.0),
        ({"x-ratelimit-reset": str((DATE_S - 7) * 1000), "date": DATE}, 0.0),
        ({"x-ratelimit-reset": str((DATE_S + 7) * 1000), "date": "soon"}, None),
        ({"x-ratelimit-reset": str((DATE_S + 7) * 1000)}, None),
        ({"x-ratelimit-reset": str((DATE_S + 9_999_999) * 1000), "date": DATE}, None),
    ],
)
def test_wait_is_read_when_the_limit_ends_at_an_instant(headers, wait_s):
    """OpenRouter's milliseconds since 1970: the answer's own Date says how far off they are, without a clock."""
    assert reset_after_s([(name.encode(), value.encode()) for name, value in headers.items()]) == wait_s


@pytest.mark.parametrize(
    ("asked", "date", "wait_s"),
    [
        ("Fri, 20 Nov 2026 10:00:30 GMT", DATE, 30.0),
        ("Fri, 20 Nov 2026 09:00:30 GMT", DATE, 0.0),
        ("Fri, 20 Nov 2026 10:00:30 GMT", None, None),
        ("Fri, 99 Nov 2026 10:00:30 GMT", DATE, None),
        ("later", DATE, None),
    ],
)
def test_wait_is_read_when_the_server_asks_for_it_by_a_date(asked, date, wait_s):
    """Retry-After may be a date (RFC 9110); the answer's own Date turns it into seconds."""
    headers = [(b"retry-after", asked.encode())] + ([(b"date", date.encode())] if date else [])
    assert retry_after_s(headers) == wait_s


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"detail": "Invalid API Key"}, ProviderServerError),
        ({"message": "Slow down", "type": "rate", "code": "rate_limit_exceeded"}, ProviderRateLimitError),
        ({"message": "boom", "status_code": 500}, ProviderServerError),
        ({"object": "error", "message": "m", "code": 400}, ProviderServerError),
    ],
)
@pytest.mark.parametrize("marker", [b"", b"data: [DONE]\n\n"])
def test_stream_fails_when_an_error_without_a_frame_is_in_it(event, kind, marker):
    """An event that is only an error is one, whatever its shape: an end marker after it makes no empty success."""
    stream = row("mistral").open_stream(ASKED)
    _, (done, failure, *_) = streamed(stream, [b"event: error\ndata: %b\n\n" % encode_json(event), marker])
    assert not done
    assert failure is kind


@pytest.mark.parametrize("event", [{"id": "c", "usage": {"prompt_tokens": 1}}, {"object": "chat.completion.chunk"}, {}])
def test_stream_goes_on_when_an_event_without_choices_is_no_error(event):
    """Counts and marks of life say nothing of a failure."""
    stream = row("mistral").open_stream(ASKED)
    said = encode_json({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    streamed(stream, [b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (encode_json(event), said)])
    assert stream.done
    assert stream.failure is None


def test_answer_fails_when_a_flat_error_of_the_callers_is_in_a_200():
    """As an error with a frame: a server that took the request and then calls it wrong has failed."""
    body = encode_json({"object": "error", "message": "m", "type": "BadRequestError", "code": 400})
    with pytest.raises(ProviderServerError):
        row("openai").decode_chat(body, ASKED)


@pytest.mark.parametrize(
    "body",
    [
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***yz. Get one."},
        {"error": {"message": "Bad key.", "type": "invalid_request_error", "code": "invalid_api_key"}},
    ],
)
def test_key_is_refused_when_the_status_is_400(body):
    """A bad key is one whatever the status (xAI, and Gemini): the operator mends it, and no part of it is shown."""
    failure = row("xai").decode_error(400, [], encode_json(body))
    assert isinstance(failure, ProviderAuthError)
    assert "xa***yz" not in failure.message


@pytest.mark.parametrize("status", [400, 422, 429, 500])
def test_key_is_in_no_message_when_a_cloud_quotes_it(status):
    """A provider that quotes our key does not make us say it."""
    key = "xai-made-up-for-tests-0123456789"
    cloud = Compatible("xai", base_of("https://cloud.example/v1"), key, Quirks())
    failure = cloud.decode_error(status, [], encode_json({"error": f"Bad request for key {key}."}))
    assert failure.message == "Bad request for key ***."


def test_wait_is_read_when_a_router_tells_the_limit_of_the_provider_behind_it():
    """OpenRouter quotes the other one's headers in the body; its own Date says how far off the instant is."""
    behind = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str((DATE_S + 7) * 1000)}
    body = encode_json({"error": {"code": 429, "message": "m", "metadata": {"headers": behind}}})
    assert row("openrouter").decode_error(429, [(b"date", DATE.encode())], body).retry_after_s == 7.0
    assert row("openrouter").decode_error(429, [], body).retry_after_s is None


def test_error_is_read_when_it_stands_in_a_list_of_one():
    """Google's own OpenAI surface, as a server of providers.yaml, answers so."""
    error = {"code": 400, "message": "Bad thing.", "status": "INVALID_ARGUMENT"}
    failure = row("openai").decode_error(400, [], encode_json([{"error": error}]))
    assert isinstance(failure, ProviderRequestError)
    assert failure.message == "Bad thing."
    assert isinstance(row("openai").decode_error(429, [], b"[]"), ProviderError)


def test_model_is_not_found_when_a_404_has_words_and_no_code():
    """OpenRouter's 404, that no endpoint runs a model, has no code: clients get the one that they know."""
    body = b'{"error":{"message":"No endpoints found for lab/gone.","code":404}}'
    failure = row("openrouter").decode_error(404, [], body)
    assert (failure.status, failure.code) == (404, "model_not_found")


@pytest.mark.parametrize("word", ["content_filter", "SAFETY"])
def test_answer_is_blocked_when_a_filter_left_nothing_whatever_its_word(word):
    """A whole answer without a word is no success, be the filter named in OpenAI's way or in another's."""
    message = {"role": "assistant", "content": ""}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": word}]}).encode()
    with pytest.raises(ProviderBlockedError):
        row("openrouter").decode_chat(body, ASKED)
