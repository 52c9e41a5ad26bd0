"""What is sent for a stored object, as a table (RFC 9110 §13 to §15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.cache.representation import Representation
from cacheserver.core.http.fields import Fields
from cacheserver.core.http.ranges import NoRange
from cacheserver.web.answer.object_reply import ObjectReply, asked_range, plan_object_reply
from tests.support.stored import NOW_S, representation

REP = representation(length_bytes=1000)
LINES = (("Content-Type", "text/plain"), ("ETag", '"1"'), ("Age", "0"))


def planned(*fields: tuple[str, str], method: str = "GET", rep: Representation = REP) -> ObjectReply:
    return plan_object_reply(rep, Fields(fields), method=method, now_s=NOW_S, boundary="B")


@pytest.mark.parametrize(
    ("fields", "status", "length", "spans", "whole"),
    [
        ((), 200, 1000, [(0, 1000)], True),
        ((("Range", "bytes=0-9"),), 206, 10, [(0, 10)], False),
        ((("Range", "bytes=990-"),), 206, 10, [(990, 1000)], True),
        ((("Range", "bytes=-10"),), 206, 10, [(990, 1000)], True),
        ((("Range", "bytes=0-"),), 206, 1000, [(0, 1000)], True),
        ((("Range", "bytes=0-9"), ("Range", "bytes=20-29")), 206, 10, [(20, 30)], False),
        ((("Range", "bytes=1000-"),), 416, 0, [], False),
        ((("Range", "bytes=x"),), 416, 0, [], False),
        ((("Range", "lines=1-2"),), 200, 1000, [(0, 1000)], True),
        ((("Range", "bytes=0-9"), ("If-Range", '"1"')), 206, 10, [(0, 10)], False),
        ((("Range", "bytes=0-9"), ("If-Range", '"2"')), 200, 1000, [(0, 1000)], True),
        ((("If-None-Match", '"1"'),), 304, None, [], False),
        ((("If-None-Match", '"1"'), ("Range", "bytes=0-9")), 304, None, [], False),
        ((("If-None-Match", '"2"'),), 200, 1000, [(0, 1000)], True),
        ((("If-Match", '"2"'),), 412, 0, [], False),
        ((("If-Match", '"1"'), ("Range", "bytes=1-1")), 206, 1, [(1, 2)], False),
    ],
)
def test_status_length_and_parts(
    fields: tuple[tuple[str, str], ...], status: int, length: int | None, spans: list[tuple[int, int]], whole: bool
) -> None:
    reply = planned(*fields)
    assert (reply.head.status, reply.head.length_bytes) == (status, length)
    assert [(part.start, part.stop) for part in reply.parts] == spans
    assert reply.whole is whole


def test_a_partial_answer_names_its_span_in_the_clients_spelling() -> None:
    assert planned(("Range", "bytes=5-9")).head.lines == (("Content-Range", "bytes 5-9/1000"),)
    assert planned(("Range", "bytes=1000-")).head.lines == (("Content-Range", "bytes */1000"),)


@pytest.mark.parametrize("fields", [(), (("Range", "bytes=0-9"),), (("Range", "bytes=2000-"),)])
def test_head_is_the_whole_answer_without_a_body(fields: tuple[tuple[str, str], ...]) -> None:
    reply = planned(*fields, method="HEAD")
    assert (reply.head.status, reply.head.length_bytes, reply.parts) == (200, 1000, ())


def test_head_is_conditional_too() -> None:
    assert planned(("If-None-Match", '"1"'), method="HEAD").head.status == 304


@pytest.mark.parametrize(
    ("fields", "status"), [((), 200), ((("Range", "bytes=0-"),), 416), ((("Range", "bytes=-1"),), 416)]
)
def test_an_empty_object_has_no_part(fields: tuple[tuple[str, str], ...], status: int) -> None:
    reply = planned(*fields, rep=representation(length_bytes=0))
    assert (reply.head.status, reply.head.length_bytes, reply.parts) == (status, 0, ())


@given(st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 300)), min_size=1, max_size=8))
def test_a_body_is_exactly_as_long_as_its_head_says(specs: list[tuple[int, int]]) -> None:
    field = "bytes=" + ",".join(f"{first}-{first + more}" for first, more in specs)
    reply = planned(("Range", field))
    size = sum(len(part.prefix) + part.stop - part.start for part in reply.parts) + len(reply.closing)
    assert size == reply.head.length_bytes
    assert all(0 <= part.start < part.stop <= 1000 for part in reply.parts)


def test_several_ranges_are_multipart_with_the_objects_own_type_inside() -> None:
    reply = planned(("Range", "bytes=0-9,500-509")).with_lines(LINES)
    assert dict(reply.head.lines)["Content-Type"] == "multipart/byteranges; boundary=B"
    assert sum(name.lower() == "content-type" for name, _value in reply.head.lines) == 1
    assert all(b"Content-Type: text/plain" in part.prefix for part in reply.parts)
    assert b"Content-Range: bytes 500-509/1000" in reply.parts[1].prefix
    assert reply.closing.endswith(b"--B--\r\n")


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        (("If-None-Match", '"1"'), False),
        (("If-Match", '"2"'), False),
        (("Range", "bytes=1000-"), False),
        (("Range", "bytes=0-1"), True),
        (("X", "y"), True),
    ],
)
def test_only_answers_with_a_body_describe_it(field: tuple[str, str], kept: bool) -> None:
    lines = dict(planned(field).with_lines(LINES).head.lines)
    assert ("Content-Type" in lines) is kept
    assert lines["ETag"] == '"1"'


def test_a_head_request_has_no_range_that_counts() -> None:
    fields = Fields((("Range", "bytes=0-1"),))
    assert asked_range(fields, REP, method="HEAD") == NoRange()
    assert asked_range(fields, None, method="GET") != NoRange()


@pytest.mark.parametrize(("field", "sent"), [("Content-MD5", False), ("Content-Digest", False), ("Repr-Digest", True)])
def test_a_digest_of_one_message_is_sent_with_no_other(field: str, sent: bool) -> None:
    lines = (*LINES, (field, "x"))
    assert field in dict(planned().with_lines(lines).head.lines)
    assert (field in dict(planned(("Range", "bytes=0-9")).with_lines(lines).head.lines)) is sent
