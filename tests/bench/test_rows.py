"""One table: what holds, what does not, what was not measured, and what several runs make of it."""

from __future__ import annotations

from typing import Any

import pytest

from bench.__main__ import exit_status
from bench.rows import HEADS, Row, as_facts, at_least, at_most, merge, one_table, stated


@pytest.mark.parametrize(
    ("row", "holds"),
    [
        (at_least("a", 1.0, 1.0), True),
        (at_least("a", 0.99, 1.0), False),
        (at_most("a", 1.0, 1.0), True),
        (at_most("a", 1.01, 1.0), False),
        (at_most("a", None, 1.0), None),
        (stated("a", 5.0), None),
    ],
)
def test_a_row_holds_up_to_its_bar_and_no_further(row: Row, holds: bool | None) -> None:
    assert row.holds is holds
    assert as_facts([row])[0]["holds"] is holds


def runs_of(*figures: float | None) -> list[list[dict[str, Any]]]:
    return [as_facts([at_most("wait", figure, 5.0, unit="ms", mine=f"run of {figure}")]) for figure in figures]


def test_several_runs_give_the_median_run_and_in_how_many_the_bar_held() -> None:
    (row,) = merge(runs_of(9.0, 1.0, 4.0))
    assert (row["figure"], row["mine"], row["figures"]) == (4.0, "run of 4.0", [9.0, 1.0, 4.0])
    assert (row["runs"], row["held"], row["holds"]) == (3, 2, False)
    assert one_table([row]).lines[0][-1] == "**no**, 2 of 3"


def test_a_bar_that_held_in_every_run_holds() -> None:
    (row,) = merge(runs_of(4.0, 1.0, 2.0))
    assert (row["held"], row["holds"]) == (3, True)
    assert one_table([row]).lines[0][-1] == "yes, 3 of 3"


def test_a_row_that_no_run_could_measure_says_why_and_is_never_reached() -> None:
    (row,) = merge([as_facts([at_most("wait", None, 5.0, note="not supported: no TLS")])] * 2)
    assert (row["runs"], row["held"], row["holds"]) == (0, None, None)
    assert one_table([row]).lines[0][-1] == "not measured: not supported: no TLS"


def test_the_table_has_a_column_for_the_node_its_peer_bar_and_aim() -> None:
    row = at_least("warm 1 MiB", 2.1334, 1.2, aim=1.8, mine="6.90 GB/s", peer="nginx-static 3.21 GB/s")
    table = one_table(merge([as_facts([row])]))
    assert table.heads == HEADS
    assert table.lines == (
        ("warm 1 MiB", "6.90 GB/s", "nginx-static 3.21 GB/s", "2.13 ×", "≥ 1.2 ×", "≥ 1.8 ×", "yes"),
    )


@pytest.mark.parametrize(
    ("figure", "check", "status"), [(6.0, True, 3), (6.0, False, 0), (4.0, True, 0), (None, True, 0)]
)
def test_a_missed_bar_fails_only_where_bars_are_checked(figure: float | None, check: bool, status: int) -> None:
    report = {"failures": {}, "benches": [{"wrong": False}], "measures": merge(runs_of(figure))}
    assert exit_status(report, check=check) == status


def test_a_wrong_answer_fails_whatever_is_checked() -> None:
    report = {"failures": {}, "benches": [{"wrong": True}], "measures": merge(runs_of(6.0))}
    assert [exit_status(report, check=check) for check in (False, True)] == [1, 1]
