"""The multipart layout, byte for byte, and against the standard library's parser."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.http.multipart import MultipartPlan, plan_multipart


def body_of(plan: MultipartPlan, content: bytes) -> bytes:
    return b"".join(head + content[start:stop] for head, start, stop in plan.parts) + plan.closing


def test_layout_is_the_one_of_rfc_9110() -> None:
    plan = plan_multipart([(0, 2), (4, 5)], total=6, content_type="text/plain", boundary="SEP")
    assert body_of(plan, b"abcdef") == (
        b"--SEP\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/6\r\n\r\nab"
        b"\r\n--SEP\r\nContent-Type: text/plain\r\nContent-Range: bytes 4-4/6\r\n\r\ne"
        b"\r\n--SEP--\r\n"
    )


def test_unknown_content_type_leaves_the_line_out() -> None:
    plan = plan_multipart([(0, 1)], total=1, content_type=None, boundary="b")
    assert plan.parts[0].head == b"--b\r\nContent-Range: bytes 0-0/1\r\n\r\n"


@given(st.binary(min_size=1, max_size=200), st.data())
def test_planned_length_is_exact_and_the_parts_can_be_read_back(content: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(content)), min_size=2, max_size=6, unique=True).map(sorted))
    ranges = list(pairwise(cuts))
    plan = plan_multipart(ranges, total=len(content), content_type="application/x-test", boundary="limit")
    body = body_of(plan, content)
    assert len(body) == plan.length_bytes
    if b"--limit" in content:
        return
    pieces = body.removesuffix(b"\r\n--limit--\r\n").split(b"--limit\r\n")[1:]
    heads = [piece.partition(b"\r\n\r\n")[0] for piece in pieces]
    messages = [BytesParser(policy=HTTP).parsebytes(head + b"\r\n\r\n") for head in heads]
    assert [str(message["Content-Range"]) for message in messages] == [
        f"bytes {start}-{stop - 1}/{len(content)}" for start, stop in ranges
    ]


@pytest.mark.parametrize(
    ("ranges", "content_type", "boundary"),
    [
        ([], None, "b"),
        ([(0, 1)], None, ""),
        ([(0, 1)], None, "a b"),
        ([(0, 1)], None, "a\r\nb"),
        ([(0, 1)], None, "x" * 71),
        ([(0, 1)], "text/plain\r\nX: y", "b"),
        ([(0, 11)], None, "b"),
    ],
)
def test_what_would_break_the_framing_is_refused(
    ranges: list[tuple[int, int]], content_type: str | None, boundary: str
) -> None:
    with pytest.raises(ValueError):
        plan_multipart(ranges, total=10, content_type=content_type, boundary=boundary)
