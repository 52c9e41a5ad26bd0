"""How warm hits are judged: their rows of the one table, and their own. Must not measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.content import MIB
from bench.report import Table
from bench.rows import Row, at_least, at_most, stated
from bench.servers import NODE, SLICE, STATIC

_BARS = {
    ("4 KiB", STATIC): (0.8, 1.0), ("4 KiB", SLICE): (1.5, None),
    ("64 KiB", STATIC): (0.9, 1.1), ("64 KiB", SLICE): (50.0, None),
}  # fmt: skip
_FASTER_BARS = {"1 MiB": (1.2, 1.8), "10 MiB": (1.0, 1.1), "whole": (1.0, 1.1)}
_TLS_BAR, _TLS_AIM = 0.6, 1.0
_HEADS = ("size", "server", "rate", "spread", "vs static", "vs slice", "p50 ms", "p99 ms", "CPU s/GB", "RSS MiB", "")


def find(rows: Sequence[dict[str, Any]], case: str, server: str) -> dict[str, Any] | None:
    """The raw row of one case and server."""
    return next((row for row in rows if row["case"] == case and row["server"] == server), None)


def rate_text(row: Mapping[str, Any]) -> str:
    """A rate with its unit."""
    return f"{row['rate'] / 1e3:.1f} k/s" if row["unit"] == "requests/s" else f"{row['rate'] / 1e9:.2f} GB/s"


def beside(rows: Sequence[dict[str, Any]], case: str, peer: str) -> dict[str, Any]:
    """The texts and the note of a row that compares the node's rate with a peer's, and the ratio as ``figure``."""
    mine, theirs = find(rows, case, NODE), find(rows, case, peer)
    if mine is None or theirs is None:
        return {"figure": None, "note": f"{NODE if mine is None else peer} failed or was left out"}
    return {
        "figure": mine["ratios"].get(peer),
        "mine": rate_text(mine),
        "peer": f"{peer} {rate_text(theirs)}",
        "note": "client is the brake" if mine["client_bound"] else "",
    }


def measures(rows: Sequence[dict[str, Any]], failed: Mapping[str, Mapping[str, str]]) -> list[Row]:
    """The rows of plain hits: the peers with a bar first, then the further ones.

    ``failed``: by case the peers that failed. One without a row leaves open who is the fastest of them.
    """
    found: list[Row] = []
    for case in dict.fromkeys(row["case"] for row in rows):
        others = [row["server"] for row in rows if row["case"] == case and row["server"] != NODE]
        others += [name for name in failed.get(case, ()) if name not in others]
        if case in _FASTER_BARS:
            found.append(_vs_faster(rows, case, [name for name in others if name in (STATIC, SLICE)]))
        for peer in others:
            bar, aim = _BARS.get((case, peer), (None, None))
            name, facts = f"warm {case}, vs {peer}", beside(rows, case, peer)
            if bar is not None:
                found.append(at_least(name, facts.pop("figure"), bar, aim=aim, **facts))
            elif peer not in (STATIC, SLICE):
                found.append(stated(name, facts.pop("figure"), **facts))
    return [*found, _first_byte(rows)] if find(rows, "10 MiB", NODE) is not None else found


def tls_measures(rows: Sequence[dict[str, Any]]) -> list[Row]:
    """HTTPS beside nginx with the same certificate and suite."""
    found = []
    for case in dict.fromkeys(row["case"] for row in rows):
        facts = beside(rows, case, STATIC)
        name = f"HTTPS {case}, vs {STATIC} with TLS"
        if case.startswith("1 MiB"):
            found.append(at_least(name, facts.pop("figure"), _TLS_BAR, aim=_TLS_AIM, **facts))
        else:
            found.append(stated(name, facts.pop("figure"), **facts))
    return found


def _vs_faster(rows: Sequence[dict[str, Any]], case: str, peers: Sequence[str]) -> Row:
    row = find(rows, case, NODE)
    known = {name: row["ratios"][name] for name in peers if name in row["ratios"]} if row is not None else {}
    bar, aim = _FASTER_BARS[case]
    name = f"warm {case}, vs the faster nginx"
    if not known or len(known) < len(peers):
        return at_least(name, None, bar, aim=aim, note="no node in this run, or an nginx that failed or was left out")
    facts = beside(rows, case, min(known, key=lambda peer: known[peer]))
    return at_least(name, facts.pop("figure"), bar, aim=aim, **facts)


def _first_byte(rows: Sequence[dict[str, Any]]) -> Row:
    """The slowest first bytes of 10 MiB ranges beside those of the deployed nginx."""
    name, case = f"first-byte p99, 10 MiB, vs {SLICE}", "10 MiB"
    p99 = [row["first_byte_p99_ms"] if row else None for row in (find(rows, case, NODE), find(rows, case, SLICE))]
    if not p99[0] or not p99[1]:
        return at_most(name, None, 1.0, unit="×", aim=0.7, note="no peer, or no answer began")
    texts = {"mine": f"{p99[0]:.1f} ms", "peer": f"{SLICE} {p99[1]:.1f} ms"}
    return at_most(name, p99[0] / p99[1], 1.0, unit="×", aim=0.7, **texts)


def table(rows: Sequence[dict[str, Any]], memory: Mapping[str, Mapping[str, int]], title: str) -> Table:
    """All cases and servers with rates, latencies, CPU and memory."""
    lines = []
    for row in rows:
        ratios = [_shown(row["ratios"].get(name)) for name in (STATIC, SLICE)]
        remarks = "client is the brake; " if row["client_bound"] else ""
        lost = row["rates"].count(None)
        remarks += f"failed in {lost} of {len(row['rates'])} rounds; " if lost else ""
        remarks += f"{row['errors']} errors; " if row["errors"] else ""
        remarks += f"{len(row['wrong_bodies'])} WRONG BODIES" if row["wrong_bodies"] else ""
        rss = memory[row["server"]]["rss_bytes"] / MIB
        figures = [_shown(row[name]) for name in ("first_byte_p50_ms", "first_byte_p99_ms", "cpu_s_per_gb")]
        spread = f"{row['spread']:.0%}"
        lines.append((row["case"], row["server"], rate_text(row), spread, *ratios, *figures, f"{rss:.0f}", remarks))
    return Table(title, _HEADS, tuple(lines))


def _shown(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.2f}"
