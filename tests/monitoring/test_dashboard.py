"""The dashboard, rules and alerts fit one another, the table of metrics and the page that explains them."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.monitoring.dashboard import ALERTS, ROOT, RULES, Panel, dashboard, exposed_names, metric_names, panels

UNITS = {"none", "bps", "Bps", "bytes", "decbytes", "percentunit", "reqps", "s"}
RATES = {"bps", "Bps", "reqps"}
ROWS = ["Fleet", "Services", "Client subnets", "Upstreams", "Store", "Verification", "Latency", "Node"]


def recorded() -> set[str]:
    return set(re.findall(r"- record: (\S+)", RULES.read_text(encoding="utf-8")))


def without_comments(text: str) -> str:
    return re.sub(r"(?m)^\s*#.*$", "", text)


def test_rows_come_in_the_order_in_which_one_asks() -> None:
    assert [raw["title"] for raw in dashboard()["panels"] if raw["type"] == "row"] == ROWS


def test_ids_and_titles_are_unique() -> None:
    raws = dashboard()["panels"]
    assert len({raw["id"] for raw in raws}) == len(raws)
    assert len({panel.title for panel in panels()}) == len(panels()) > 30


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.title)
def test_a_panel_says_what_it_shows_in_which_unit(panel: Panel) -> None:
    assert panel.title.strip() == panel.title != ""
    assert panel.description.endswith(".")
    assert panel.unit in UNITS
    assert panel.raw["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel.raw["targets"]] == list("ABCD"[: len(panel.expressions)])
    for target in panel.raw["targets"]:
        assert target["datasource"] == panel.raw["datasource"]
        assert target["legendFormat"]
    for expression in panel.expressions:
        assert ("rate(" in expression and "/" not in expression.replace("/s", "")) <= (panel.unit in {*RATES, "s"})
        assert expression.startswith("8 * ") <= (panel.unit == "bps")


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.title)
def test_an_expression_obeys_the_variables_and_uses_metrics_of_the_table(panel: Panel) -> None:
    for expression in panel.expressions:
        assert metric_names(expression) <= exposed_names()
        selectors = re.findall(r"\{([^{}]*)\}", expression)
        assert selectors
        assert all(selector.startswith('job=~"$job", instance=~"$instance"') for selector in selectors)
        assert set(re.findall(r"\[([^\]]*)\]", expression)) <= {"$__rate_interval", "$__range"}


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.title)
def test_an_age_leaves_out_what_never_happened_and_a_share_of_bytes_what_was_refused(panel: Panel) -> None:
    for expression in panel.expressions:
        if "time()" in expression:
            moments = re.findall(r"_timestamp_seconds\{[^}]*\}( > 0)?", expression)
            assert moments
            assert all(moments), "0 is no moment: it is 57 years ago"
        if "1 - " in expression and "response_bytes" in expression:
            selectors = re.findall(r"response_bytes_total\{([^}]*)\}", expression)
            assert all('outcome!~"refused|error"' in selector for selector in selectors)


def test_panels_lie_side_by_side_on_24_columns() -> None:
    grids = [(raw["id"], *(raw["gridPos"][key] for key in "xywh")) for raw in dashboard()["panels"]]
    assert all(x >= 0 and w > 0 and h > 0 and x + w <= 24 for _, x, _, w, h in grids)
    for (one, x, y, w, h), (other, x2, y2, w2, h2) in itertools.combinations(grids, 2):
        assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y, (one, other)


def test_variables_are_the_data_source_jobs_and_nodes() -> None:
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance"]
    assert variables["datasource"]["type"] == "datasource"
    assert all(variables[name]["includeAll"] and variables[name]["multi"] for name in ("job", "instance"))
    assert all(
        metric_names(variables[name]["definition"]) == {"cacheserver_build_info"} for name in ("job", "instance")
    )


def test_rules_and_alerts_use_metrics_that_exist() -> None:
    text = without_comments(RULES.read_text(encoding="utf-8") + ALERTS.read_text(encoding="utf-8"))
    used = metric_names(text)
    assert used <= exposed_names() | recorded()
    assert len(used) > 12


def test_every_alert_has_severity_summary_and_a_chapter_that_says_what_to_do() -> None:
    blocks = ALERTS.read_text(encoding="utf-8").split("- alert: ")[1:]
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    assert len(blocks) == 12
    for block in blocks:
        name = block.split("\n", 1)[0]
        assert re.search(r"severity: (warning|critical)\n", block), name
        assert "summary: " in block, name
        assert "description: >-" in block, name
        assert f"### {name}\n" in page


def test_every_alert_and_recording_is_tried_by_the_rule_tests() -> None:
    tried = (ROOT / "tests/monitoring/alerts_test.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\S+)", ALERTS.read_text(encoding="utf-8"))
    assert {name for name in alerts if f'alertname="{name}"' not in tried} == set()
