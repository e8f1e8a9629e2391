import pytest

from mana_llm.simulator import BadNameError, Fault, Script, script_in


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("sim", Script()),
        ("sim.ok.chunks-20.pace-0.05.bytes-2000", Script(chunks=20, pace_s=0.05, text_bytes=2000)),
        ("sim.cut.after-3.how-rst", Script(fault=Fault(kind="cut", after=3, how="rst"))),
        ("sim.status.code-429.retry--1", Script(fault=Fault(kind="status", code=429, retry_after="-1"))),
        ("sim.no-done:latest", Script(fault=Fault(kind="no-done"))),
        ("vendor/sim.tools.calls-2", Script(tools=2)),
        ("sim.ok.crlf.usage-x_groq.comments-3", Script(crlf=True, usage_place="x_groq", comments=3)),
        ("sim.drip.drip-0.5", Script(fault=Fault(kind="drip", pace_s=0.5))),
    ],
)
def test_name_is_a_script_when_it_follows_the_grammar(name, script):
    """Kinds, settings, tags and vendor prefixes are read as the table says."""
    assert script_in(name) == script


@pytest.mark.parametrize("name", ["gpt-4o-mini", "simple", "gemma3:4b", "openai/gpt-oss-20b", ""])
def test_name_is_no_script_when_it_is_ordinary(name):
    """Any other name is a plain model."""
    assert script_in(name) is None


@pytest.mark.parametrize(
    "name", ["sim.dance", "sim.ok.after-3", "sim.cut.speed-3", "sim.ok.chunks-many", "sim.ok.usage-elsewhere"]
)
def test_name_is_refused_when_it_breaks_the_grammar(name):
    """A typing error in a script is told, not taken for a model."""
    with pytest.raises(BadNameError):
        script_in(name)
