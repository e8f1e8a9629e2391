"""docs/observability.md names what there is, and its examples are what Prometheus reads."""

import re

import yaml
from prometheus_client.parser import text_string_to_metric_families

from mana_llm.compose import make_gateway
from mana_llm.observe.access import Line
from mana_llm.settings import Settings
from tests.docs.pages import blocks, text_of
from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "observability.md"


def rows(text: str) -> list[list[str]]:
    """The cells of a page's tables, heads and rules left out."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| `"]


def test_metric_has_its_row_when_it_is_exposed():
    """The table has every metric that is exposed, with the name that one queries, and no other."""
    text = make_gateway(Settings())[0].metrics.text().decode()
    exposed = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    told = [row[0].strip("`") for row in rows(text_of(PAGE).partition("## The log")[0])]
    assert sorted(told) == sorted(exposed)


def test_labels_are_told_when_a_metric_has_samples():
    """Where there are samples before the first request, their labels are the table's."""
    text = make_gateway(Settings())[0].metrics.text().decode()
    told = {row[0].strip("`").removesuffix("_total"): row[1] for row in rows(text_of(PAGE)) if len(row) == 3}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sorted(set(sample.labels) - {"le"})
            assert labels == sorted(filter(None, told[family.name].split(", "))), family.name


def test_member_has_its_row_when_a_line_may_have_it():
    """The table of the log has every member of a line, in its order, but the logger's name."""
    told = [name for row in rows(text_of(PAGE).partition("## The log")[2]) for name in re.findall(r"`(\w+)`", row[0])]
    assert told == list(Line.__struct_fields__)


def test_examples_are_understood_when_prometheus_reads_them():
    """The scrape configuration and the three alerts are YAML of the shape that Prometheus wants."""
    scrape, alerts = (yaml.safe_load(block) for block in blocks(PAGE, "yaml"))
    assert scrape["scrape_configs"][0]["static_configs"] == [{"targets": [f"localhost:{Settings().port}"]}]
    rules = alerts["groups"][0]["rules"]
    assert len(rules) == 3
    assert all(rule.keys() == {"alert", "expr", "for", "annotations"} for rule in rules)
