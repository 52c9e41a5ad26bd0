"""What is taken out of a head says nothing that could change its answer."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cacheserver.core.request.answer_record import RequestLabel
from cacheserver.web.heads import HitLines
from cacheserver.web.lane.hot_table import HotEntry, HotTable, shape_of
from tests.support.lanes import OpenFile
from tests.support.stored import NOW_S
from tests.web.lane.test_cold_disk import StubObject, stored

SERIAL_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/.!-"
HEAD = b"GET /a HTTP/1.1\r\nHost: a.example\r\n%b\r\n"


def head(*lines: bytes) -> bytes:
    return HEAD % b"".join(line + b"\r\n" for line in lines)


def test_heads_that_differ_in_what_cannot_matter_have_one_shape() -> None:
    known, value = shape_of(head(b"MS-CV: aB+/9.1", b"Range: bytes=0-9"))
    assert value == b"0-9"
    assert shape_of(head(b"MS-CV: C!-.2", b"Range: bytes=5-"))[0] == known


@given(st.binary(max_size=40))
def test_a_serial_of_any_other_form_makes_another_shape(value: bytes) -> None:
    assume(b"\r\n" not in value)  # that would be a line of its own
    known, _ = shape_of(head(b"MS-CV: a.1"))
    shape, _ = shape_of(head(b"MS-CV: " + value))
    assert (shape == known) == all(byte in SERIAL_BYTES for byte in value)


@pytest.mark.parametrize(
    "odd",
    [
        head(b"range: bytes=0-9"),
        head(b"RANGE:bytes=0-9"),
        b"\r\n" + head(),
        b"\r\nRange: bytes=5-9" + b"\r\n" + head(),
        head(*(b"Accept: a" for _ in range(80))),
    ],
)
def test_a_head_that_does_not_say_what_it_seems_to_is_not_learned(odd: bytes) -> None:
    table, entry = HotTable(), entry_of(60.0)
    for secure in (False, True):
        table.learn(odd, entry, secure=secure)
        assert len(table) == 0


def entry_of(lifetime_s: float) -> HotEntry:
    lines = HitLines(kept=b"", kept_of_part=b"", lifetime_s=lifetime_s, age_on_arrival_s=0, arrived_s=NOW_S, trust=0)
    obj = StubObject(OpenFile(-1))  # type: ignore[arg-type]
    return HotEntry(stored(obj), object(), 1, RequestLabel(), float("inf"), lines)


def test_an_entry_that_is_stale_by_the_wall_clock_is_not_answered() -> None:
    entry = entry_of(60.0)
    assert entry.begin_second(5.0, NOW_S + 59)
    assert b"Age: 59\r\n" in entry.head_206
    assert not entry.begin_second(6.0, NOW_S + 60), "the monotonic clock has stood still, or the wall clock was set"
    assert entry_of(float("inf")).begin_second(5.0, NOW_S + 400 * 86400)
