"""instructor through the gateway: every mode of structured output, tools, streams and embeddings, on every upstream."""

from collections.abc import Iterable

import openai
import pytest
from pydantic import BaseModel

from mana_llm.simulator import Script, ToolCall
from tests.clients.upstreams import asked, calls_tools, each_upstream, missing, says

pytestmark = pytest.mark.clients

QUESTION = [{"role": "user", "content": "Who is it?"}]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


class Weather(BaseModel):
    """The weather in a city."""

    city: str


SIMULATED = {"name": "simulated", "age": 1}


@pytest.fixture(scope="module")
def instructor():
    return pytest.importorskip("instructor", reason=missing("instructor"))


@pytest.fixture
def client_of(instructor, running):
    """Makes a client in a mode."""

    def make(mode: str):
        client = openai.OpenAI(base_url=running.v1, api_key="any", max_retries=0)
        return instructor.from_openai(client, mode=getattr(instructor.Mode, mode))

    return make


def calls(running, call: ToolCall, **only) -> None:
    """Let every model make this call; `only` says of which requests."""
    running.run(lambda: running.simulator.script(Script(tool_calls=(call,)), **only))


@pytest.mark.parametrize("mode", ["TOOLS", "JSON", "JSON_SCHEMA", "MD_JSON"])
@each_upstream
def test_object_comes_when_a_mode_asks_for_it(client_of, running, upstream, mode):
    """A forced tool, a JSON object, a JSON schema and a fenced block all become the class, without a second attempt."""
    if mode == "MD_JSON":
        says(running, '```json\n{"name": "simulated", "age": 1}\n```')
    elif mode == "JSON":
        says(running, '{"name": "simulated", "age": 1}')
    elif mode == "TOOLS":
        calls_tools(running)
    found = client_of(mode).chat.completions.create(
        model=upstream.chat, messages=QUESTION, response_model=Person, max_retries=0
    )
    assert found.model_dump() == SIMULATED
    assert len(list(asked(running, upstream))) == 1


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
@each_upstream
def test_object_grows_when_it_is_streamed(client_of, running, upstream, mode):
    """Partial objects end as the whole one."""
    if mode == "TOOLS":
        calls_tools(running)
    parts = list(
        client_of(mode).chat.completions.create_partial(
            model=upstream.chat, messages=QUESTION, response_model=Person, max_retries=0
        )
    )
    assert parts[-1].model_dump() == SIMULATED


@each_upstream
def test_objects_come_one_by_one_when_many_are_streamed(client_of, running, upstream):
    """An iterable of objects is read out of one streamed call."""
    calls(running, ToolCall("IterablePerson", {"tasks": [SIMULATED, SIMULATED]}))
    found = list(
        client_of("TOOLS").chat.completions.create_iterable(
            model=upstream.chat, messages=QUESTION, response_model=Person, max_retries=0
        )
    )
    assert [each.model_dump() for each in found] == [SIMULATED, SIMULATED]


@each_upstream
def test_tools_are_called_in_parallel_when_the_mode_says_so(client_of, running, upstream):
    """Two calls of one answer become two objects of their own classes."""
    calls_tools(running, 2)
    found = client_of("PARALLEL_TOOLS").chat.completions.create(
        model=upstream.chat, messages=QUESTION, response_model=Iterable[Person | Weather], max_retries=0
    )
    assert sorted(type(each).__name__ for each in found) == ["Person", "Weather"]


@each_upstream
def test_answer_is_asked_for_again_when_it_is_not_valid(client_of, running, upstream):
    """A call with a bad object is followed by one that shows the bad call and its error, and the object is had."""
    calls(running, ToolCall("Person", SIMULATED))
    calls(running, ToolCall("Person", {"name": "x", "age": "no number"}), path=upstream.path, times=1)
    found = client_of("TOOLS").chat.completions.create(
        model=upstream.chat, messages=QUESTION, response_model=Person, max_retries=1
    )
    assert found.model_dump() == SIMULATED
    assert "no number" in str(list(asked(running, upstream))[1])


@each_upstream
def test_embeddings_come_when_the_wrapped_client_asks(client_of, upstream):
    """The client underneath asks for base64 and gets floats."""
    found = client_of("TOOLS").embeddings.create(model=upstream.embed, input=["a", "b"])
    assert len(found.data) == 2
    assert all(isinstance(value, float) for value in found.data[0].embedding)
