"""JSON that can be read in one way only."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheserver.core.strict_json import strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(VALUES)
def test_every_json_value_is_read(value: object) -> None:
    assert strict_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"{}{}", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'{"a":1,"a":1}', "'a' twice"),
        (b'{"a":1,"\\u0061":2}', "'a' twice"),
        (b'[{"x":{"\\n\\u202e":1,"\\n\\u202e":2}}]', r"'\n\u202e' twice"),
        (b"[NaN]", "NaN"),
        (b"-Infinity", "-Infinity"),
        (b"[" * 1_000_000, "deeply"),
        (b'{"a":' * 1_000_000, "deeply"),
        (b"9" * 10_000, "digits"),
        (b"01", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'"a\nb"', "not JSON"),
    ],
)
def test_everything_else_is_refused_with_one_line(data: bytes, part: str) -> None:
    with pytest.raises(ValueError) as caught:
        strict_json(data)
    assert part in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
