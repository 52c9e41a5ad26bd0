"""The shipped dashboard and rules, read as data."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cacheserver.metrics.table import METRICS

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "config/grafana/dashboards/cacheserver.json"
RULES = ROOT / "config/prometheus/rules.yml"
ALERTS = ROOT / "config/prometheus/alerts.yml"
CERTIFICATE = "cacheserver_certificate_not_after_timestamp_seconds"
"""Exposed only by a node that has a certificate."""
_NAME = re.compile(r"(?:[a-z_]+:)?\b(?:cacheserver|process)_\w+(?::\w+)?")


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel that is no row."""

    id: int
    title: str
    kind: str
    unit: str
    description: str
    grid: tuple[int, int, int, int]
    """x, y, width, height."""
    expressions: tuple[str, ...]
    raw: dict[str, Any]


def dashboard() -> dict[str, Any]:
    """The dashboard's JSON."""
    data = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def panels() -> list[Panel]:
    """Every panel but the rows."""
    return [
        Panel(
            id=raw["id"],
            title=raw["title"],
            kind=raw["type"],
            unit=raw["fieldConfig"]["defaults"].get("unit", ""),
            description=raw.get("description", ""),
            grid=(raw["gridPos"]["x"], raw["gridPos"]["y"], raw["gridPos"]["w"], raw["gridPos"]["h"]),
            expressions=tuple(target["expr"] for target in raw["targets"]),
            raw=raw,
        )
        for raw in dashboard()["panels"]
        if raw["type"] != "row"
    ]


def metric_names(text: str) -> set[str]:
    """Names of metrics in expressions, by their prefix; those of recording rules carry a colon."""
    return set(_NAME.findall(text))


def exposed_names() -> set[str]:
    """Names of samples that the table promises."""
    names = {CERTIFICATE}
    for doc in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if doc.type == "histogram" else ("",)
        names.update(doc.name + suffix for suffix in suffixes)
    return names
