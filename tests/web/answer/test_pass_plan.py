"""What passes: an answer is judged by all that it says, and never looks complete where it is not."""

from __future__ import annotations

import pytest

from cacheserver.core.cache.answer import Asked
from cacheserver.core.errors import BadAnswer
from cacheserver.core.http.fields import Fields
from cacheserver.core.request.target import Form
from cacheserver.web.answer.pass_plan import PassPlan, asked_upstream, plan_pass
from tests.support.filling import OWN, want_for
from tests.support.scripted import ScriptedAnswer, Turn

Line = tuple[str, str]
CHUNKED = ("Transfer-Encoding", "chunked")
MULTIPART = ("Content-Type", "multipart/byteranges; boundary=b")


def length(value: int) -> Line:
    return ("Content-Length", str(value))


def part(value: str) -> Line:
    return ("Content-Range", f"bytes {value}")


def plan(
    status: int,
    *lines: Line,
    asked: str | None = None,
    form: Form = Form.HOST,
    joinable: bool = False,
    if_range: str | None = None,
) -> PassPlan:
    ranged = () if asked is None else (("Range", f"bytes={asked}"),)
    conditions = () if if_range is None else (("If-Range", if_range),)
    want = want_for("a", *ranged, *conditions, service=OWN, form=form)
    answer = ScriptedAnswer(status, Fields(lines), b"", Turn(), "http://a.test:80")
    relayed = tuple(line for line in lines if line[0] != "Content-Length")
    return plan_pass(answer, want, "GET", relayed, joinable=joinable)


@pytest.mark.parametrize(
    ("status", "lines", "asked"),
    [
        (200, [part("0-9/30"), length(10)], None),
        (200, [part("0-9/30"), length(10)], "0-9"),
        (200, [part("0-29/30"), length(10)], None),
        (200, [part("*/30"), length(30)], None),
        (200, [MULTIPART, length(30)], None),
        (200, [length(30), CHUNKED], None),
        (200, [length(30), length(30)], None),
        (206, [part("0-9/30"), length(10)], None),
        (206, [part("10-19/30"), length(10)], "0-9"),
        (206, [part("0-9/30"), length(9)], "0-9"),
        (206, [length(10)], "0-9"),
        (206, [part("0-9/30"), part("0-9/30")], "0-9"),
        (206, [part("0-9/5"), length(10)], "0-9"),
        (206, [("Content-Range", "items 0-9/30"), length(10)], "0-9"),
        (206, [MULTIPART, length(10)], "0-9"),
        (206, [part("0-9/30"), length(10)], "-10"),
        (206, [part("20-29/30"), length(10)], "50-"),
        (206, [part("10-19/*"), length(10)], "0-9"),
    ],
)
def test_an_answer_that_contradicts_itself_or_the_range_does_not_pass(
    status: int, lines: list[Line], asked: str | None
) -> None:
    with pytest.raises(BadAnswer) as caught:
        plan(status, *lines, asked=asked)
    assert caught.value.source == "http://a.test:80"


def test_a_part_of_another_generation_than_the_client_has_does_not_pass() -> None:
    lines = (part("0-9/30"), length(10), ("ETag", '"new"'))
    assert plan(206, *lines, asked="0-9").head.status == 206
    with pytest.raises(BadAnswer):
        plan(206, *lines, asked="0-9", if_range='"old"')


@pytest.mark.parametrize("framing", [[], [CHUNKED], [length(10)]])
def test_a_part_is_as_long_as_it_says_whatever_its_framing(framing: list[Line]) -> None:
    passed = plan(206, part("10-19/30"), *framing, asked="10-19")
    assert (passed.head.status, passed.head.length_bytes, passed.start, passed.stop) == (206, 10, 10, 20)


@pytest.mark.parametrize(
    ("joinable", "stop"),
    [(True, 20), (False, 15)],
)
def test_a_part_that_is_shorter_than_asked_is_completed_or_named_as_it_is(joinable: bool, stop: int) -> None:
    passed = plan(206, part("10-14/30"), length(5), asked="10-19", joinable=joinable)
    assert (passed.stop, passed.ends, passed.head.length_bytes) == (stop, 15, stop - 10)
    assert dict(passed.head.lines)["Content-Range"] == f"bytes 10-{stop - 1}/30"


def test_more_than_asked_is_cut_and_loses_the_digests_of_its_message() -> None:
    passed = plan(206, part("10-24/30"), length(15), ("Content-MD5", "x"), asked="10-19")
    assert (passed.position, passed.start, passed.stop, passed.head.length_bytes) == (10, 10, 20, 10)
    assert passed.head.lines == (("Content-Range", "bytes 10-19/30"),)
    same = plan(206, part("10-19/30"), length(10), ("Content-MD5", "x"), asked="10-19")
    assert dict(same.head.lines)["Content-MD5"] == "x"


def test_a_whole_answer_to_a_range_is_cut_and_one_behind_its_end_is_416() -> None:
    assert plan(200, length(30), asked="10-19").head.status == 206
    assert plan(200, length(30), asked="-5").start == 25
    unsatisfied = plan(200, length(30), asked="30-")
    assert (unsatisfied.head.status, unsatisfied.head.length_bytes) == (416, 0)


def test_a_part_without_a_total_passes_only_to_clients_that_need_none() -> None:
    assert plan(206, part("0-9/*"), length(10), asked="0-9").head.length_bytes == 10
    with pytest.raises(BadAnswer):
        plan(206, part("0-9/*"), length(10), asked="0-9", form=Form.CACHE_HOST)


def test_several_ranges_pass_as_they_come() -> None:
    assert plan(206, MULTIPART, length(99), asked="0-1,4-5").head.length_bytes == 99


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ((), Asked(0, None, whole=True)),
        ((("Range", "bytes=3-9"),), Asked(3, 10)),
        ((("Range", "bytes=3-"),), Asked(3, None)),
        ((("Range", "bytes=-3"),), None),
        ((("Range", "bytes=1-2,4-5"),), None),
        ((("Range", "items=1-2"),), None),
    ],
)
def test_only_one_range_with_a_beginning_can_be_asked_for_without_range(
    lines: tuple[Line, ...], asked: Asked | None
) -> None:
    assert asked_upstream(lines) == asked
