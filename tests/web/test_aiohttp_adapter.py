"""Cutting a stream of bytes behind every head."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cacheserver.web.aiohttp_adapter import HeadCutter

HEADS = st.lists(
    st.sampled_from([b"GET / HTTP/1.1\r\n", b"A: 1\r\n", b"\r\n", b"\r", b"\n", b"x", b"\r\n\r\n"]), max_size=30
)


@given(parts=HEADS, size=st.integers(1, 40))
def test_the_cuts_are_those_of_the_whole_stream_however_it_comes(parts: list[bytes], size: int) -> None:
    stream = b"".join(parts)
    whole, pieces = HeadCutter(), HeadCutter()
    ends = set()
    at = 0
    for start in range(0, len(stream), size):
        for part in pieces.cut(stream[start : start + size]):
            at += len(part)
            ends.add(at)
    assert at == len(stream)
    at = 0
    for part in whole.cut(stream):
        at += len(part)
        assert at in ends
        assert part.find(b"\r\n\r\n") in (-1, len(part) - 4)
