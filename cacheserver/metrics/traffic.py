"""Sums over a tally for people to look at: all traffic, by outcome, service and subnet.

Owns: these sums. Must not count anything itself. Pure.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from cacheserver.metrics.tally import NOT_SERVED, Tally


def traffic(tally: Tally) -> dict[str, Any]:
    """Totals since the start, as JSON values; every list has the largest number of bytes first.

    ``response_bytes`` went to clients; ``served_bytes`` are those of them that were no
    refusals and errors, which save nothing; ``upstream_bytes`` came from sources, and count as they come.
    """
    sent: dict[str, Counter[str]] = {"outcomes": Counter(), "services": Counter(), "subnets": Counter()}
    served: Counter[str] = Counter()
    answered: dict[str, Counter[str]] = {name: Counter() for name in sent}
    for (service, outcome, _status_class, _listener), cell in tally.cells():
        for name, label in (("outcomes", outcome), ("services", service)):
            sent[name][label] += cell.body_bytes
            answered[name][label] += cell.count
        if outcome not in NOT_SERVED:
            served[service] += cell.body_bytes
    for (subnet, _outcome), group in tally.groups():
        sent["subnets"][subnet] += group.body_bytes
        answered["subnets"][subnet] += group.count
    received: Counter[str] = Counter()
    for key, amount in tally.counts():
        if key[0] == "upstream_bytes_total":
            received[key[1]] += amount
    for service in received:
        answered["services"].setdefault(service, 0)
    rows = {name: _rows(answered[name], sent[name]) for name in sent}
    for row in rows["services"]:
        row["served_bytes"] = served[row["name"]]
        row["upstream_bytes"] = received[row["name"]]
    return {
        "requests": answered["outcomes"].total(),
        "response_bytes": sent["outcomes"].total(),
        "served_bytes": served.total(),
        "upstream_bytes": received.total(),
        **rows,
    }


def _rows(answered: Counter[str], sent: Counter[str]) -> list[dict[str, Any]]:
    rows = [{"name": name, "requests": count, "response_bytes": sent[name]} for name, count in answered.items()]
    return sorted(rows, key=lambda row: (-row["response_bytes"], row["name"]))
