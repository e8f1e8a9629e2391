"""The pages that are made from the code say what the code says."""

import ast

import pytest

from docs.generate import pages as made_pages
from docs.generate import stale
from docs.generate.figures import with_figures
from docs.generate.reliability import promises_in, reliability_page
from docs.generate.settings import env_example
from mana_llm.settings import Settings, load, specs
from tests.docs.pages import README, blocks, text_of
from tests.house.tree import ROOT, files_of_tests, parsed

RESULTS = """{"command": "make bench", "made": "2026-01-02",
 "machine": {"cpu": "a processor", "cores": 2, "python": "3.11.7", "kernel": "6", "load_average": 0.1},
 "budget": [{"title": "plain request, CPU", "figure": 61.25, "most": 80.0, "unit": "us", "verdict": "pass"},
            {"title": "memory, idle", "figure": null, "most": 60.0, "unit": "MB", "verdict": "none"}]}"""
TESTS = '''
import pytest
pytestmark = pytest.mark.{module}

@pytest.mark.{one}
def test_one():
    """R7 (10 of 1,000): nothing is
    stranded.

    More words.
    """

class TestMore:
    async def test_two(self):
        """R12 (all of all): every | byte."""

    def test_other(self):
        """Says nothing of R7 (1 of 2): a row."""
'''


def test_pages_are_up_to_date_when_the_code_is_read():
    """Every page that is made from the code is kept as it would be made now."""
    assert not stale(), f"run make docs: {', '.join(stale())} would change"


def test_example_environment_names_every_setting_when_read():
    """`.env.example` has every setting and no other, each with its default."""
    lines = [line for line in env_example().splitlines() if line.startswith("#") and line[1:2].isupper()]
    names = [line[1:].partition("=")[0] for line in lines if "=" in line.partition(" ")[0]]
    assert names == [spec.metadata["name"] for spec in specs()]


def test_example_environment_changes_nothing_when_uncommented(tmp_path):
    """With every # taken away, `.env.example` is understood and means the defaults."""
    names = {spec.metadata["name"] for spec in specs()}
    lines = [line[1:] for line in env_example().splitlines() if line[1:].partition("=")[0] in names]
    file = tmp_path / ".env"
    file.write_text("\n".join(lines))
    assert load({}, file) == Settings()


def test_errors_page_names_every_error_when_made():
    """Every error class, and every status that the README's table leaves to it, has its row."""
    page = made_pages()["docs/errors.md"]
    classes = [
        node.name for node in parsed(ROOT / "src/mana_llm/schema/errors.py").body if isinstance(node, ast.ClassDef)
    ]
    assert [name for name in classes if f"| `{name}` |" not in page] == ["GatewayError"]
    for row in ("| `AuthenticationError` | 401 |", "| `ProviderQuotaError` | 429 |", "| `body_too_large` | `413` |"):
        assert row in page


@pytest.mark.parametrize(("module", "one", "expected"), [("x", "long", [True, False]), ("long", "x", [True, True])])
def test_reliability_row_is_found_when_a_docstring_carries_it(tmp_path, module, one, expected):
    """A row is the first sentence of a test's docstring, and long where the test, its class or its file is marked."""
    (tmp_path / "test_some.py").write_text(TESTS.format(module=module, one=one))
    found = list(promises_in(tmp_path / "test_some.py", tmp_path))
    assert [(each.row, each.text, each.test) for each in found] == [
        (7, "nothing is stranded.", "test_one"),
        (12, "every | byte.", "test_two"),
    ]
    assert [each.is_long for each in found] == expected
    page = reliability_page(tmp_path)
    assert "| R12 | all of all | " in page
    assert "every \\| byte." in page
    assert "R1 to R6, R8 to R11, R13 to R64." in page


def test_reliability_page_misses_no_row_when_a_test_nearly_carries_one():
    """No docstring of a test begins like a row and is none: a slip would leave it out of the page without a word."""
    slips = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in files_of_tests()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (ast.get_docstring(node) or "")[:1] == "R"
        and (ast.get_docstring(node) or "")[1:2].isdigit()
        and node.name not in {each.test for each in promises_in(path, ROOT / "tests")}
    ]
    assert not slips, "\n".join(slips)


def test_figures_fill_the_readme_when_there_are_results(tmp_path):
    """The README's block takes the results' figures with where they are from, and what was not measured says so."""
    file = tmp_path / "results.json"
    file.write_text(RESULTS)
    text = with_figures(text_of(README), file)
    assert "`make bench` on 2026-01-02: a processor, 2 cores, Python 3.11.7." in text
    assert "| plain request, CPU | 61.2 µs | 80 µs |" in text
    assert "| memory, idle | not measured | 60 MB |" in text
    assert with_figures(text, ROOT / "benchmarks" / "results.json") == text_of(README)


def test_figures_are_refused_when_the_readme_has_no_block(tmp_path):
    """A README without the marks is an error, not a page without figures."""
    with pytest.raises(ValueError, match="figures"):
        with_figures("# no marks", tmp_path / "none.json")


def test_readme_shows_blocks_of_each_kind_when_read():
    """The README has the examples that the other tests run."""
    assert [len(blocks(README, language)) for language in ("yaml", "python", "sh")] == [1, 1, 3]
