"""Ranges: the grammar of RFC 9110 §14, and selection against naive set semantics."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.ranges import (
    MAX_SPECS,
    MERGE_GAP_BYTES,
    BadRange,
    ContentRange,
    IntSpec,
    NoRange,
    Parts,
    RangeField,
    RangeSpecs,
    Spec,
    SuffixSpec,
    Unsatisfiable,
    UnsatisfiedRange,
    Whole,
    first_demand,
    format_content_range,
    format_unsatisfied,
    parse_content_range,
    parse_range,
    select,
)


def specs(*members: Spec) -> RangeSpecs:
    return RangeSpecs(members)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, NoRange()),
        ("", NoRange()),
        ("pieces=0-1", NoRange()),
        ("bytesx=0-1", NoRange()),
        ("bytes=0-1", specs(IntSpec(0, 1))),
        ("BYTES=0-1", specs(IntSpec(0, 1))),
        (" bytes=154140672-155189247 ", specs(IntSpec(154140672, 155189247))),
        ("bytes=5-", specs(IntSpec(5, None))),
        ("bytes=-5", specs(SuffixSpec(5))),
        ("bytes=-0", specs(SuffixSpec(0))),
        ("bytes=0-0 ,\t9-12", specs(IntSpec(0, 0), IntSpec(9, 12))),
        ("bytes=,0-0,,-1,", specs(IntSpec(0, 0), SuffixSpec(1))),
        ("bytes=000000000000000001-", specs(IntSpec(1, None))),
        ("bytes", BadRange()),
        ("bytes 0-1", BadRange()),
        ("bytes =0-1", RangeSpecs((IntSpec(0, 1),))),
        ("bytes = 0 - 1", RangeSpecs((IntSpec(0, 1),))),
        ("bytes=- 5", RangeSpecs((SuffixSpec(5),))),
        ("bytes=", BadRange()),
        ("bytes=,", BadRange()),
        ("bytes=-", BadRange()),
        ("bytes=abc", BadRange()),
        ("bytes=2-1", BadRange()),
        ("bytes=0-1,2-1", BadRange()),
        ("bytes=0 -1", RangeSpecs((IntSpec(0, 1),))),
        ("bytes=0-1;2-3", BadRange()),
        ("bytes=--1", BadRange()),
        ("bytes=+1-2", BadRange()),
        ("bytes=0-1, bytes=2-3", BadRange()),
        ("bytes=1234567890123456789-", RangeSpecs((IntSpec(10**18, None),))),
        (f"bytes=5-{'9' * 5000}", RangeSpecs((IntSpec(5, 10**18),))),
        (f"bytes={'0' * 5000}5-6", RangeSpecs((IntSpec(5, 6),))),
        (f"bytes=-{'9' * 40}", RangeSpecs((SuffixSpec(10**18),))),
        ("bytes=0-\u0661", BadRange()),
        ("bytes=0-\u00b2", BadRange()),
    ],
)
def test_range_field_is_read_by_the_grammar(field: str | None, expected: RangeField) -> None:
    assert parse_range(field) == expected


def test_spec_list_is_bounded() -> None:
    assert isinstance(parse_range("bytes=" + ",".join(["0-0"] * MAX_SPECS)), RangeSpecs)
    assert parse_range("bytes=" + ",".join(["0-0"] * (MAX_SPECS + 1))) == BadRange()


@pytest.mark.parametrize(
    ("field", "length", "expected"),
    [
        (None, 10, Whole()),
        (None, 0, Whole()),
        ("lines=1-2", 10, Whole()),
        ("bytes=x", 10, Unsatisfiable()),
        ("bytes=0-1", 10, Parts(((0, 2),))),
        ("bytes=0-", 10, Parts(((0, 10),))),
        ("bytes=9-9", 10, Parts(((9, 10),))),
        ("bytes=9-999999", 10, Parts(((9, 10),))),
        ("bytes=10-", 10, Unsatisfiable()),
        ("bytes=-0", 10, Unsatisfiable()),
        ("bytes=-0,3-3", 10, Parts(((3, 4),))),
        ("bytes=-3", 10, Parts(((7, 10),))),
        ("bytes=-11", 10, Parts(((0, 10),))),
        ("bytes=0-", 0, Unsatisfiable()),
        ("bytes=-5", 0, Unsatisfiable()),
        ("bytes=0-1,10-11", 10, Parts(((0, 2),))),
        ("bytes=5-9,0-5", 10_000, Parts(((0, 10),))),
        ("bytes=0-4,5-9", 10_000, Parts(((0, 10),))),
        ("bytes=0-0,128-128", 10_000, Parts(((0, 129),))),
        ("bytes=0-0,129-129", 10_000, Parts(((0, 1), (129, 130)))),
        ("bytes=5000-5001,0-1,-1", 10_000, Parts(((5000, 5002), (0, 2), (9999, 10_000)))),
        ("bytes=5000-5001,0-1,5001-5010", 10_000, Parts(((5000, 5011), (0, 2)))),
        ("bytes=5005-5010,0-1,5000-5006", 10_000, Parts(((5000, 5011), (0, 2)))),
    ],
)
def test_selection_follows_rfc_9110(field: str | None, length: int, expected: object) -> None:
    assert select(parse_range(field), length) == expected


def test_too_many_separate_parts_are_refused_and_merged_ones_are_not() -> None:
    apart = parse_range("bytes=" + ",".join(f"{n * 1000}-{n * 1000}" for n in range(101)))
    assert select(apart, 10**6) == Unsatisfiable()
    assert isinstance(select(apart, 10**6, max_parts=101), Parts)
    close = parse_range("bytes=" + ",".join(f"{n * 10}-{n * 10}" for n in range(101)))
    assert select(close, 10**6) == Parts(((0, 1001),))


SPECS: st.SearchStrategy[Spec] = st.one_of(
    st.builds(SuffixSpec, st.integers(0, 2500)),
    st.builds(IntSpec, st.integers(0, 2500), st.none()),
    st.tuples(st.integers(0, 2500), st.integers(0, 400)).map(lambda pair: IntSpec(pair[0], pair[0] + pair[1])),
)


def naive(spec: Spec, length: int) -> set[int]:
    if isinstance(spec, SuffixSpec):
        return set(range(length)[-spec.length :]) if spec.length else set()
    return {n for n in range(length) if spec.first <= n and (spec.last is None or n <= spec.last)}


@given(st.lists(SPECS, min_size=1, max_size=12), st.integers(0, 2000))
def test_selected_spans_are_the_union_of_the_specs_plus_small_gaps(members: list[Spec], length: int) -> None:
    wanted: set[int] = set().union(*(naive(spec, length) for spec in members))
    selected = select(RangeSpecs(tuple(members)), length)
    if not wanted:
        assert selected == Unsatisfiable()
        return
    assert isinstance(selected, Parts)
    covered = [n for start, stop in selected.ranges for n in range(start, stop)]
    assert len(covered) == len(set(covered)) <= length
    assert wanted <= set(covered) <= set(range(length))
    for start, stop in selected.ranges:
        assert {start, stop - 1} <= wanted
        have = sorted(wanted & set(range(start, stop)))
        assert all(b - a - 1 < MERGE_GAP_BYTES for a, b in pairwise(have))
    ordered = sorted(selected.ranges)
    assert all(b[0] - a[1] >= MERGE_GAP_BYTES for a, b in pairwise(ordered))


@given(st.lists(SPECS, min_size=1, max_size=12), st.integers(1, 2000))
def test_spans_stand_in_the_order_of_the_first_spec_that_asked_for_them(members: list[Spec], length: int) -> None:
    selected = select(RangeSpecs(tuple(members)), length)
    if not isinstance(selected, Parts):
        return
    firsts = [
        next(order for order, spec in enumerate(members) if naive(spec, length) & set(range(start, stop)))
        for start, stop in selected.ranges
    ]
    assert firsts == sorted(firsts)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text: str) -> None:
    parse_range(text)
    parse_range("bytes=" + text)
    parse_content_range("bytes " + text)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, (0, None)),
        ("other=1-2", (0, None)),
        ("bytes=0-1", (0, 2)),
        ("bytes=7-", (7, None)),
        ("bytes=7-7,-1", (7, 8)),
        ("bytes=-1,7-7", None),
        ("bytes=x", None),
    ],
)
def test_first_demand_of_a_cold_object(field: str | None, expected: tuple[int, int | None] | None) -> None:
    assert first_demand(parse_range(field)) == expected


def test_content_range_is_spelled_as_the_agent_reads_it() -> None:
    assert format_content_range(0, 10, 25006511) == "bytes 0-9/25006511"
    assert format_unsatisfied(25006511) == "bytes */25006511"


@pytest.mark.parametrize(("start", "stop", "total"), [(0, 0, 5), (3, 2, 5), (0, 6, 5), (-1, 2, 5)])
def test_content_range_of_no_span_is_refused(start: int, stop: int, total: int) -> None:
    with pytest.raises(ValueError, match="no span"):
        format_content_range(start, stop, total)


@given(st.integers(0, 10**17), st.integers(1, 10**17), st.integers(0, 10**17))
def test_content_range_round_trips(start: int, size: int, rest: int) -> None:
    total = start + size + rest
    assert parse_content_range(format_content_range(start, start + size, total)) == ContentRange(
        start, start + size, total
    )
    assert parse_content_range(format_unsatisfied(total)) == UnsatisfiedRange(total)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-9/*", ContentRange(0, 10, None)),
        ("Bytes 0-9/10", ContentRange(0, 10, 10)),
        ("bytes */0", UnsatisfiedRange(0)),
        ("bytes */*", None),
        ("bytes 0-9/9", None),
        ("bytes 9-8/10", None),
        ("bytes 0-9", None),
        ("bytes=0-9/10", None),
        ("bytes  0-9/10", None),
        ("bytes 0-9/10, bytes 0-9/10", None),
        ("bytes 0-9/1\u0660", None),
        ("bytes 0 -9/10", None),
        ("bytes -9/10", None),
        ("bytes 0-9/1234567890123456789", None),
        ("items 0-9/10", None),
        ("", None),
    ],
)
def test_content_range_is_read_strictly(value: str, expected: object) -> None:
    assert parse_content_range(value) == expected
