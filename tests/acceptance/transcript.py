"""The transcript of an acceptance run as Markdown. Pure: what it is given is what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.acceptance.lab import Case, Run

_INTRODUCTION = """\
# Real clients

`make acceptance` writes this page; it runs `python -m tests.acceptance.real_clients`. An nginx on the loopback
interface is the origin and counts the bytes that it sends. The node is in front of it with an empty cache. Unchanged
programs download real files through the node, first cold, then warm. The run compares the SHA-256 of each file with the
origin's. It fails in these cases:

* A digest is wrong.
* A cold run does not cost the origin each byte exactly once. After a cut, a cold run may cost more: the bytes that the
  origin had already sent when the client was killed.
* A warm run reaches the origin.

`NODE` is the node's `address:port`, and `ORIGIN` is the origin's. The [glossary](glossary.md) explains the outcomes.
"""


def render(cases: Sequence[Case], *, versions: Mapping[str, str], skipped: Mapping[str, str]) -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Programs\n", *(f"* {version}" for version in versions.values()), ""]
    parts.extend(_case(case) for case in cases)
    parts.extend(f"## {title}\n\nNot run: {reason}.\n" for title, reason in skipped.items())
    return "\n".join(parts)


def _case(case: Case) -> str:
    lines = [f"## {case.title}", "", "```", *case.commands, "```", ""]
    lines += [f"{note}\n" for note in case.notes]
    lines += ["| run | files | bytes | digests | origin requests | origin bytes / file bytes | outcomes |"]
    lines += ["|---|---|---|---|---|---|---|", *(_row(run) for run in case.runs), ""]
    return "\n".join(lines)


def _row(run: Run) -> str:
    outcomes = ", ".join(f"{name} {count}" for name, count in run.outcomes.items())
    share = run.origin_bytes / run.file_bytes
    cost = f"{run.origin_requests} | {share:.3f}"
    return f"| {run.name} | {run.files} | {run.file_bytes:,} | equal | {cost} | {outcomes} |"
