"""What Prometheus's own tool says of the metrics, the rules and the example configuration."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cacheserver.metrics.table import METRICS
from tests.metrics.test_meter import exercised
from tests.monitoring.dashboard import ALERTS, ROOT, RULES
from tests.monitoring.prometheus import needs_prometheus, promtool


@needs_prometheus
def test_the_exposition_is_clean() -> None:
    assert promtool("check", "metrics", text=exercised().render(None)[0]) == (0, "")


@needs_prometheus
def test_the_tool_does_complain_of_a_bad_name() -> None:
    code, words = promtool("check", "metrics", text=b"# TYPE hits counter\nhits 1\n")
    assert code != 0
    assert "_total" in words


def test_openmetrics_is_read_back_by_a_strict_parser() -> None:
    body = exercised().render("application/openmetrics-text")[0].decode()
    families = list(text_string_to_metric_families(body))  # type: ignore[no-untyped-call]
    assert {f.name for f in families} == {doc.name.removesuffix("_total") for doc in METRICS}
    assert sum(len(family.samples) for family in families) > len(METRICS)


@needs_prometheus
def test_rules_and_alerts_are_well_formed() -> None:
    code, words = promtool("check", "rules", str(RULES), str(ALERTS))
    assert code == 0, words
    code, words = promtool("check", "config", str(ROOT / "config/prometheus/prometheus.yml"))
    assert code == 0, words


@needs_prometheus
def test_every_alert_fires_for_the_bad_node_and_for_no_good_one() -> None:
    code, words = promtool("test", "rules", str(ROOT / "tests/monitoring/alerts_test.yml"))
    assert code == 0, words
